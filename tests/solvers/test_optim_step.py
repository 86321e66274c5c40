"""One update: pieces of a batch give the gradient of their mean."""

import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.solvers.optim_step import (
    OptimizerStep,
    check_accumulation,
    divergence_error,
)


def updates(seed=0, **options):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return model, OptimizerStep(model, optimizer, scaler=scaler, **options)


def test_pieces_move_the_weights_as_the_whole_batch_does():
    x, y = torch.randn(6, 3), torch.randn(6, 1)
    whole, whole_updates = updates()
    whole_updates.add((whole(x) - y).square().mean())
    expected = whole_updates.step()
    cut, cut_updates = updates()
    for i, (part_x, part_y) in enumerate(zip(x.split(2), y.split(2))):
        cut_updates.add((cut(part_x) - part_y).square().mean(), i, 3)
    assert cut_updates.step() == pytest.approx(expected)
    torch.testing.assert_close(cut.weight, whole.weight)


def test_gradients_are_clipped_to_their_norm():
    model, updater = updates(max_norm=0.5)
    before = model.weight.detach().clone()
    bias = model.bias.detach().clone()
    updater.add(1000 * model(torch.ones(1, 3)).sum())
    metrics = updater.step()
    moved = torch.cat([(model.weight - before).flatten(), model.bias - bias]).detach()
    assert metrics["grad_norm"] == pytest.approx(2000)
    assert float(moved.norm()) == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_a_norm_below_zero_is_refused():
    """It would turn gradients round."""
    with pytest.raises(ConfigError, match=r"optim\.max_norm is -1.*0 or null"):
        updates(max_norm=-1)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_moves_nothing(spoilt):
    model, updater = updates(max_norm=1.0)
    before = model.weight.detach().clone()
    updater.add(spoilt * model(torch.ones(1, 3)).sum())
    with pytest.raises(FloatingPointError, match="norm of the gradient became"):
        updater.step()
    assert torch.equal(model.weight, before)


def test_a_scaler_leaves_such_an_update_out():
    model, updater = updates()
    updater.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=True)
    before = model.weight.detach().clone()
    updater.add(float("inf") * model(torch.ones(1, 3)).sum())
    updater.step()
    assert torch.equal(model.weight, before)
    assert updater.scaler.get_scale() == 2.0


def test_a_run_that_diverged_is_told_what_is_left():
    told = str(divergence_error("loss became nan", "epoch 3, train", "a1b2c3d4", is_saved=True))
    assert told.startswith("The loss became nan in epoch 3, train. What was saved before is")
    assert "Lower optim.lr" in told
    assert "continue_from=//sig/a1b2c3d4" in told
    told = str(divergence_error("loss became nan", "epoch 1, train", "a1b2c3d4", is_saved=False))
    assert "Nothing had been saved yet" in told
    assert "continue_from" not in told


@pytest.mark.parametrize(
    ("accumulate", "batch_size", "world_size", "message"),
    [(0, 4, 1, "at least 1"), (3, 4, 1, "such as 6"), (2, 6, 2, "such as 8")],
)
def test_a_batch_that_does_not_divide_is_refused(accumulate, batch_size, world_size, message):
    with pytest.raises(ConfigError, match=message):
        check_accumulation(accumulate, batch_size, world_size)
    check_accumulation(2, 8, 2)
