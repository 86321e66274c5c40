"""What a run asks of its data beside batches."""

import logging

import pytest

from audiocraft.solvers.batches import repeat_first_batch, warn_changed_data

TWO = {"files": 2, "hours": 0.005, "digest": "a"}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"files": 5, "hours": 0.014, "digest": "b"}, "then, 5 of 0.014 now. The run goes on"),
        ({"files": 2, "hours": 0.005, "digest": "b"}, "then, 2 of 0.005 now, of other lengths."),
    ],
)
def test_data_that_changed_since_a_checkpoint_are_told(now, told, caplog):
    with caplog.at_level(logging.WARNING):
        warn_changed_data(TWO, now)
    assert "2 files of 0.005 hours then" in caplog.text
    assert told in caplog.text


@pytest.mark.parametrize("then", [TWO, None, {}])
def test_of_the_same_data_nothing_is_told(then, caplog):
    warn_changed_data(then, TWO)
    assert caplog.text == ""


def test_the_first_batch_comes_as_often_as_there_are_batches():
    assert list(repeat_first_batch(["first", "second", "third"])) == ["first"] * 3  # type: ignore
