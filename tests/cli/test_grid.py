"""`python -m audiocraft grid`: listing of experiments and errors."""

import os

import pytest

from audiocraft import train
from audiocraft.cli.main import main

GRID = "musicgen.musicgen_style_tiny"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Experiments are written to a folder of the test."""
    monkeypatch.setattr(train.main.dora, "dir", tmp_path)
    return tmp_path


def test_a_dry_run_lists_the_experiments_and_starts_none(outputs, capsys):
    main(["grid", GRID, "--local", "--dry_run"])
    table = capsys.readouterr().out
    assert table.count("PEN") == 3
    assert not list(outputs.rglob("*.json"))


def test_patterns_and_indices_select_experiments(outputs, capsys):
    main(["grid", GRID, "lr=0.001", "--local", "--dry_run"])
    assert capsys.readouterr().out.count("PEN") == 1
    main(["grid", GRID, "--local", "0", "2", "--dry_run"])
    assert capsys.readouterr().out.count("PEN") == 2


def test_a_missing_experiment_is_reported(outputs):
    for pattern in ("lr=77", "7"):
        with pytest.raises(SystemExit, match=f"error: The grid {GRID} has no experiment"):
            main(["grid", GRID, pattern, "--local"])


def test_a_missing_grid_lists_the_existing_ones(outputs):
    with pytest.raises(SystemExit, match=f"error: There is no grid 'nope' .*{GRID}"):
        main(["grid", "nope", "--local"])


def test_slurm_options_are_refused_with_local(outputs, capsys):
    with pytest.raises(SystemExit):
        main(["grid", GRID, "--local", "--retry"])
    assert "--local does not accept --retry" in capsys.readouterr().err


def test_parallel_zero_is_refused(outputs):
    with pytest.raises(SystemExit, match="error: --parallel is 0"):
        main(["grid", GRID, "--local", "--parallel", "0"])


def test_parallel_is_refused_with_slurm(outputs):
    with pytest.raises(SystemExit, match="error: --parallel needs --local"):
        main(["grid", GRID, "--parallel", "2"])


def test_without_local_dora_runs_the_grid(outputs, monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda *args: called.append(args) or exit(0))
    with pytest.raises(SystemExit):
        main(["grid", GRID, "--retry", "--no-monitoring"])
    dora = ["-m", "dora", "-P", "audiocraft", "grid"]
    assert called[0][1][1:] == [*dora, GRID, "--retry", "--no_monitoring"]


def test_outputs_that_cannot_be_written_are_reported(outputs, monkeypatch):
    (outputs / "file").touch()
    monkeypatch.setattr(train.main.dora, "dir", outputs / "file" / "outputs")
    with pytest.raises(SystemExit, match=r"error: .*cannot be written"):
        main(["grid", GRID, "--local"])
