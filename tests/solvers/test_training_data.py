"""Training data: changes since the last checkpoint are logged."""

import logging

import pytest

from audiocraft.solvers.training_data import repeat_first_batch, warn_changed_data

TWO = {"files": 2, "hours": 0.005, "digest": "a"}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"files": 5, "hours": 0.014, "digest": "b"}, "5 files, 0.014 hours now"),
        (
            {"files": 2, "hours": 0.005, "digest": "b"},
            "hours now, with other durations",
        ),
    ],
)
def test_training_data_that_has_changed_logs_a_warning(now, expected, caplog):
    with caplog.at_level(logging.WARNING):
        warn_changed_data(TWO, now)
    assert "2 files, 0.005 hours then" in caplog.text
    assert expected in caplog.text


@pytest.mark.parametrize("then", [TWO, None, {}])
def test_same_training_data_logs_no_warning(then, caplog):
    warn_changed_data(then, TWO)
    assert caplog.text == ""


def test_first_batch_is_repeated_for_all_batches():
    assert list(repeat_first_batch(["first", "second", "third"])) == ["first"] * 3  # type: ignore
