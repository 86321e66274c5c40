"""How far an epoch is: means that can be taken up again, and a clock that tells when to save."""

import pytest

from audiocraft.solvers.progress import CheckpointTimer, EpochProgress, RunningMean

BATCHES = [({"ce": 3.0, "lr": 0.1}, 4), ({"ce": 1.5}, 2), ({"ce": 2.0, "lr": 0.3}, 4)]


def test_means_are_weighted_and_each_number_has_its_own_weight():
    mean = RunningMean()
    for values, weight in BATCHES:
        mean.add(values, weight)
    assert mean.means() == pytest.approx({"ce": 23 / 10, "lr": 0.2})


def test_an_epoch_that_is_taken_up_again_ends_with_the_same_digits():
    whole, first, rest = EpochProgress(), EpochProgress(), EpochProgress()
    for values, weight in BATCHES:
        whole.mean.add(values, weight)
    first.updates = 1
    first.mean.add(*BATCHES[0])
    rest.load_state_dict(first.state_dict())
    for values, weight in BATCHES[1:]:
        rest.mean.add(values, weight)
    assert rest.mean.means() == whole.mean.means()
    assert rest.updates == 1


def test_what_was_saved_does_not_change_any_more():
    progress = EpochProgress()
    progress.mean.add({"ce": 1.0})
    state = progress.state_dict()
    progress.mean.add({"ce": 5.0})
    assert state["sums"] == {"ce": 1.0}


def test_a_new_epoch_starts_from_nothing():
    progress = EpochProgress()
    progress.updates = 3
    progress.mean.add({"ce": 1.0})
    progress.restart()
    assert progress.state_dict() == {"updates": 0, "sums": {}, "weights": {}}


def test_saving_is_due_after_updates():
    clock = CheckpointTimer(every_updates=3)
    assert [n for n in range(1, 10) if clock.is_due(n)] == [3, 6, 9]


def test_saving_is_due_after_minutes_since_the_last_time():
    now = [0.0]
    clock = CheckpointTimer(every_minutes=2, now=lambda: now[0])
    now[0] = 119
    assert not clock.is_due(1)
    now[0] = 120
    assert clock.is_due(2)
    clock.saved()
    assert not clock.is_due(3)


def test_without_a_setting_saving_is_never_due():
    assert not any(CheckpointTimer(now=lambda: 1e9).is_due(n) for n in range(1, 100))
