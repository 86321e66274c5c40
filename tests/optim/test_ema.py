"""Moving average of weights."""

import pytest
import torch
from torch import nn

from audiocraft.optim.ema import ModuleDictEMA


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def move(module):
    """Change every weight of a module, as an update does."""
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(torch.ones_like(value))


def values(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(actual[key], expected[key])


def test_unbiased_average_is_the_weighted_mean_of_its_updates(module):
    ema = ModuleDictEMA({"model": module}, decay=0.5)
    seen = []
    for _ in range(4):
        move(module)
        seen.append(module[0].weight.detach().clone())
        ema.step()
    weights = torch.tensor([0.5**3, 0.5**2, 0.5, 1.0])
    mean = torch.einsum("n,nij->ij", weights / weights.sum(), torch.stack(seen))
    torch.testing.assert_close(ema.state["model"]["0.weight"], mean)


def test_first_unbiased_step_copies_the_weights(module):
    ema = ModuleDictEMA({"model": module}, decay=0.99)
    move(module)
    ema.step()
    assert_same(ema.state["model"], module.state_dict())


def test_biased_average_starts_from_the_initial_weights(module):
    before = module[0].weight.detach().clone()
    ema = ModuleDictEMA({"model": module}, decay=0.9, unbias=False)
    move(module)
    ema.step()
    torch.testing.assert_close(ema.state["model"]["0.weight"], before + 0.1)


def test_counters_are_copied_not_averaged(module):
    ema = ModuleDictEMA({"model": module}, decay=0.9, unbias=False)
    for _ in range(3):
        move(module)
        ema.step()
    assert ema.state["model"]["1.num_batches_tracked"] == 3


def test_weights_are_restored_after_swapping_in_the_average(module):
    ema = ModuleDictEMA({"model": module}, decay=0.5)
    for _ in range(3):
        move(module)
        ema.step()
    trained, averaged = values(module), {k: v.clone() for k, v in ema.state["model"].items()}

    with ema.averaged():
        assert_same(module.state_dict(), averaged)
    assert_same(module.state_dict(), trained)
    assert_same(ema.state["model"], averaged)


def test_weights_are_restored_after_an_error(module):
    ema = ModuleDictEMA({"model": module}, decay=0.5)
    move(module)
    trained = values(module)
    with pytest.raises(KeyboardInterrupt), ema.averaged():
        raise KeyboardInterrupt
    assert_same(module.state_dict(), trained)


def test_only_every_nth_update_counts(module):
    rare = ModuleDictEMA({"model": module}, decay=0.5, updates=3)
    kept = ModuleDictEMA({"model": module}, decay=0.5)
    for update in range(1, 8):
        move(module)
        rare.step()
        if update % 3 == 0:
            kept.step()
    assert_same(rare.state["model"], kept.state["model"])


def test_resumed_average_equals_an_uninterrupted_one(module, tmp_path):
    whole = ModuleDictEMA({"model": module}, decay=0.5, updates=2)
    stopped = ModuleDictEMA({"model": module}, decay=0.5, updates=2)
    for _ in range(3):
        move(module)
        whole.step()
        stopped.step()
    torch.save(stopped.state_dict(), tmp_path / "ema.th")

    resumed = ModuleDictEMA({"model": module}, decay=0.5, updates=2)
    resumed.load_state_dict(torch.load(tmp_path / "ema.th", weights_only=True))
    for _ in range(3):
        move(module)
        whole.step()
        resumed.step()
    assert_same(resumed.state["model"], whole.state["model"])
    assert resumed.count == whole.count


def test_saved_average_has_the_layout_of_released_checkpoints(module):
    state = ModuleDictEMA({"model": module}).state_dict()
    assert set(state) >= {"state", "count"}
    assert state["state"]["model"].keys() == module.state_dict().keys()


def test_restart_resets_the_average(module):
    ema = ModuleDictEMA({"model": module}, decay=0.5)
    move(module)
    ema.step()
    move(module)
    ema.restart()
    assert ema.count == 0
    assert_same(ema.state["model"], module.state_dict())
