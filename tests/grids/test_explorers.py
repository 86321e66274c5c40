"""Table of `dora grid`."""

import re

import pytest
import treetable as tt

from grids._explorers import LMExplorer


@pytest.fixture
def explorer():
    return LMExplorer(lambda launcher: None)


def test_an_experiment_that_has_not_started_has_a_row(explorer):
    assert explorer.process_history([]) == {"train": {"epoch": 0}, "valid": {}, "evaluate": {}}


def test_the_row_shows_the_latest_metrics_and_the_best_loss(explorer):
    history = [
        {"train": {"ce": 5.0}, "valid": {"ce": 4.0}, "evaluate": {"ce": 4.1, "fad": 2.0}},
        {"train": {"ce": 4.0}, "valid": {"ce": 3.0}},
        {"train": {"ce": 3.0}, "valid": {"ce": 3.5}},
    ]
    row = explorer.process_history(history)
    assert row["train"] == {"epoch": 3, "ce": 3.0}
    assert row["valid"] == {"ce": 3.5, "best_ce": 3.0}
    assert row["evaluate"] == {"ce": 4.1, "fad": 2.0}


def test_the_history_is_not_modified(explorer):
    history = [{"train": {"ce": 5.0}}, {"train": {"ce": 4.0}}]
    explorer.process_history(history)
    assert history[0] == {"train": {"ce": 5.0}}


def test_metrics_that_were_not_computed_are_blank(explorer):
    rows = [
        explorer.process_history([{"evaluate": {"fad": 2.0, "nn_common": 0.25}}]),
        explorer.process_history([{"evaluate": {"fad": None}}]),
        explorer.process_history([]),
    ]
    groups = [group for group in explorer.get_grid_metrics() if group.key == "evaluate"]
    table = tt.treetable(rows, tt.table(groups=groups), colors=["0"])
    _, names, *lines = table.splitlines()
    assert "G=NN" in names
    figures = [re.sub(r"\x1b\[\d*m", "", line).split() for line in lines]
    assert figures == [["2.000", "0.250"], [], []]


def test_metrics_are_shown(explorer):
    row = explorer.process_history([{"train": {"lr": 1e-4}, "valid": {"ce": 3.25}}])
    table = tt.table(groups=explorer.get_grid_metrics())
    shown = tt.treetable([row], table, colors=["0"])
    assert "1.00E-04" in shown
    assert shown.count("3.250") == 2  # the latest and the best
