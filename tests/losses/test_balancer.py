"""Gradient balancer: shares of the gradient, resumption, several processes."""

import pytest
import torch

from audiocraft.losses import Balancer

from ..processes import in_processes


def gradient(balancer, scale=1.0, seed=0, batch=slice(None)):
    """Gradient that reaches the weights of a linear map, for two losses of different kinds."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 4, generator=generator).requires_grad_()
    x = torch.randn(6, 4, generator=generator)[batch]
    y = x @ weight
    losses = {"l1": scale * y.abs().mean(), "l2": y.square().mean()}
    balancer.backward(losses, y)
    assert weight.grad is not None
    return weight.grad


def test_scale_of_a_loss_does_not_change_the_gradient():
    plain, scaled = (Balancer({"l1": 1.0, "l2": 3.0}) for _ in range(2))
    for seed in range(3):
        torch.testing.assert_close(
            gradient(plain, seed=seed), gradient(scaled, scale=1000.0, seed=seed)
        )
    assert scaled.metrics["ratio_l1"] > plain.metrics["ratio_l1"]


def test_without_balancing_gradients_are_weighted_sums():
    balancer = Balancer({"l1": 0.5, "l2": 2.0}, balance_grads=False)
    weighted = Balancer({"l1": 1.0, "l2": 0.0}, balance_grads=False)
    other = Balancer({"l1": 0.0, "l2": 1.0}, balance_grads=False)
    torch.testing.assert_close(gradient(balancer), 0.5 * gradient(weighted) + 2.0 * gradient(other))


def test_restored_balancer_gives_the_same_gradients():
    balancer, restored = (Balancer({"l1": 1.0, "l2": 3.0}, ema_decay=0.9) for _ in range(2))
    gradient(balancer)
    restored.load_state_dict(balancer.state_dict())
    assert torch.equal(gradient(balancer, seed=1), gradient(restored, seed=1))


def test_non_finite_gradient_is_not_propagated():
    balancer = Balancer({"l1": 1.0, "l2": 1.0})
    y = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(FloatingPointError, match="l2"):
        balancer.backward({"l1": y.mean(), "l2": y.mean() * float("nan")}, y)
    assert y.grad is None
    assert balancer.state_dict() == {"sums": {}, "counts": {}}


@pytest.mark.parametrize(
    ("options", "key"), [({"ema_decay": 2.0}, "ema_decay"), ({"weights": {"l1": -1.0}}, "l1")]
)
def test_settings_out_of_range_raise(options, key):
    with pytest.raises(ValueError, match=key):
        Balancer(**{"weights": {"l1": 1.0}} | options)


def _share_of_the_gradient(rank, per_batch_item):
    balancer = Balancer({"l1": 1.0, "l2": 3.0}, per_batch_item=per_batch_item)
    grad = gradient(balancer, batch=slice(3 * rank, 3 * rank + 3))
    torch.distributed.all_reduce(grad)
    return grad / 2


@pytest.mark.integration
@pytest.mark.parametrize("per_batch_item", [True, False])
def test_two_processes_give_the_gradient_of_one(per_batch_item):
    whole = gradient(Balancer({"l1": 1.0, "l2": 3.0}, per_batch_item=per_batch_item))
    for grad in in_processes(_share_of_the_gradient, 2, per_batch_item):
        torch.testing.assert_close(grad, whole)
