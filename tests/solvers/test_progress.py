"""Progress within an epoch: deferred metrics, resumable means, checkpoint timer."""

import pytest
import torch

from audiocraft.solvers.progress import (
    CheckpointTimer,
    DeferredMetrics,
    EpochProgress,
    RunningMean,
)

BATCHES = [({"ce": 3.0, "lr": 0.1}, 4), ({"ce": 1.5}, 2), ({"ce": 2.0, "lr": 0.3}, 4)]


def test_means_are_weighted_and_each_metric_has_its_own_weight():
    mean = RunningMean()
    for values, weight in BATCHES:
        mean.add(values, weight)
    assert mean.means() == pytest.approx({"ce": 23 / 10, "lr": 0.2})


def test_resumed_epoch_ends_with_the_same_digits():
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


def test_saved_state_does_not_change_afterwards():
    progress = EpochProgress()
    progress.mean.add({"ce": 1.0})
    state = progress.state_dict()
    progress.mean.add({"ce": 5.0})
    assert state["sums"] == {"ce": 1.0}


def test_deferred_metrics_keep_order_and_values():
    metrics = {"lr": 0.1, "ce": torch.tensor(2.5, requires_grad=True), "grad_norm": torch.ones(1)}
    values = DeferredMetrics(metrics).values()
    assert list(values.items()) == [("lr", 0.1), ("ce", 2.5), ("grad_norm", 1.0)]
    assert DeferredMetrics({"lr": 1}).values() == {"lr": 1.0}


def test_new_epoch_starts_empty():
    progress = EpochProgress()
    progress.updates = 3
    progress.mean.add({"ce": 1.0})
    progress.restart()
    assert progress.state_dict() == {"updates": 0, "sums": {}, "weights": {}}


def test_checkpoint_is_due_after_updates():
    timer = CheckpointTimer(every_updates=3)
    assert [n for n in range(1, 10) if timer.is_due(n)] == [3, 6, 9]


def test_checkpoint_is_due_after_minutes_since_the_last_one():
    now = [0.0]
    timer = CheckpointTimer(every_minutes=2, now=lambda: now[0])
    now[0] = 119
    assert not timer.is_due(1)
    now[0] = 120
    assert timer.is_due(2)
    timer.restart()
    assert not timer.is_due(3)


def test_without_a_setting_no_checkpoint_is_due():
    assert not any(CheckpointTimer(now=lambda: 1e9).is_due(n) for n in range(1, 100))
