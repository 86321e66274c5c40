"""Optimizer step: gradient accumulation, clipping, non-finite gradients."""

import math

import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.solvers.optim_step import (
    OptimizerStep,
    check_accumulation,
    divergence_error,
)


def make_step(seed=0, **options):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return model, OptimizerStep(model, optimizer, scaler=scaler, **options)


def test_micro_batches_give_the_same_update_as_the_whole_batch():
    x, y = torch.randn(6, 3), torch.randn(6, 1)
    whole, whole_step = make_step()
    whole_step.backward((whole(x) - y).square().mean())
    expected = whole_step.step()
    split, split_step = make_step()
    for i, (part_x, part_y) in enumerate(zip(x.split(2), y.split(2))):
        split_step.backward((split(part_x) - part_y).square().mean(), i, 3)
    torch.testing.assert_close(split_step.step(), expected)
    torch.testing.assert_close(split.weight, whole.weight)


def test_gradients_are_clipped_to_max_norm():
    model, optim_step = make_step(max_norm=0.5)
    before = model.weight.detach().clone()
    bias = model.bias.detach().clone()
    optim_step.backward(1000 * model(torch.ones(1, 3)).sum())
    metrics = optim_step.step()
    moved = torch.cat([(model.weight - before).flatten(), model.bias - bias]).detach()
    assert float(metrics["grad_norm"]) == pytest.approx(2000)
    assert float(moved.norm()) == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_negative_max_norm_raises():
    """It would reverse gradients."""
    with pytest.raises(ConfigError, match=r"optim\.max_norm is -1"):
        make_step(max_norm=-1)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_non_finite_gradient_has_a_non_finite_norm(factor):
    model, optim_step = make_step(max_norm=1.0)
    optim_step.backward(factor * model(torch.ones(1, 3)).sum())
    assert not math.isfinite(optim_step.step()["grad_norm"])


def test_scaler_skips_a_non_finite_update():
    model, optim_step = make_step()
    optim_step.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=True)
    before = model.weight.detach().clone()
    optim_step.backward(float("inf") * model(torch.ones(1, 3)).sum())
    optim_step.step()
    assert torch.equal(model.weight, before)
    assert optim_step.scaler.get_scale() == 2.0


def test_error_of_a_diverged_run_names_the_saved_checkpoint():
    message = str(divergence_error("loss became nan", "epoch 3, train", "a1b2c3d4", is_saved=True))
    assert message.startswith("The loss became nan in epoch 3, train.")
    assert "optim.lr" in message
    assert "continue_from=//sig/a1b2c3d4" in message
    message = str(divergence_error("loss became nan", "epoch 1, train", "a1b2c3d4", is_saved=False))
    assert "continue_from" not in message


@pytest.mark.parametrize(
    ("accumulate", "batch_size", "world_size", "message"),
    [(0, 4, 1, "optim.accumulate is 0"), (3, 4, 1, "such as 6"), (2, 6, 2, "such as 8")],
)
def test_batch_that_does_not_divide_into_micro_batches_raises(
    accumulate, batch_size, world_size, message
):
    with pytest.raises(ConfigError, match=message):
        check_accumulation(accumulate, batch_size, world_size)
    check_accumulation(2, 8, 2)
