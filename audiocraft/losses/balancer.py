"""Gradient balancer: weights become shares of the gradient, whatever the scales of the losses.

The gradient of each loss with respect to the output of the model is divided by a moving average of
its own norm and multiplied by its share of the weights. Only the sum goes back through the model.

Method: Défossez et al., 2022, https://arxiv.org/abs/2210.13438 (section 3.4).
"""

import math
import typing as tp

import torch
from torch import Tensor
from torch import distributed as dist


class Balancer:
    """Backward pass over several losses, each with a fixed share of the gradient.

    Several processes send back what one process with the whole batch would.

    Args:
        weights: Weight of each loss by name.
        balance_grads: Make the weights shares of the gradient; otherwise they are plain factors.
        total_norm: Norm of the sum of the gradients, if they all pointed in one direction.
        ema_decay: Decay of the moving average of the norms, per call.
        per_batch_item: Average the norms of the items of a batch; else one norm of the whole batch.
        epsilon: Added to the norms before dividing.
        monitor: Also measure the shares of losses without weight.

    Raises:
        ValueError: `ema_decay` is not in 0 … 1, or a weight is negative.
    """

    def __init__(
        self,
        weights: tp.Mapping[str, float],
        balance_grads: bool = True,
        total_norm: float = 1.0,
        ema_decay: float = 0.999,
        per_batch_item: bool = True,
        epsilon: float = 1e-12,
        monitor: bool = False,
    ):
        if not 0 <= ema_decay <= 1:
            raise ValueError(f"ema_decay is {ema_decay}, but must lie between 0 and 1.")
        negative = [name for name, weight in weights.items() if not weight >= 0]
        if negative:
            raise ValueError(f"The weight of {negative[0]} is negative: {weights[negative[0]]}.")
        self.weights = dict(weights)
        self.balance_grads = balance_grads
        self.total_norm = total_norm
        self.ema_decay = ema_decay
        self.per_batch_item = per_batch_item
        self.epsilon = epsilon
        self.monitor = monitor
        self.sums: dict[str, float] = {}  # of norms and of their weights, both decaying
        self.counts: dict[str, float] = {}
        self._ratios: dict[str, float] = {}

    @property
    def metrics(self) -> dict[str, float]:
        """Share of each loss in the sum of the averaged norms, at the last call: `ratio_NAME`."""
        return dict(self._ratios)

    def backward(self, losses: tp.Mapping[str, Tensor], input: Tensor) -> Tensor:
        """Send the balanced gradient of the losses through the graph behind `input`.

        Args:
            losses: Losses by name, functions of `input`.
            input: Output of the model, `[B, …]`.

        Returns:
            The sum of the losses with the factors that were used, detached.

        Raises:
            KeyError: A loss has no weight.
            FloatingPointError: The norm of a gradient is not finite; nothing was sent back.
        """
        grads = self._gradients(losses, input)
        norms = self._average({name: self._norm(grad) for name, grad in grads.items()})
        total = sum(norms.values()) + self.epsilon
        self._ratios = {f"ratio_{name}": norm / total for name, norm in norms.items()}
        factors = self._factors(norms)
        # Every item has its norm: gradients that are averaged over processes are to be summed.
        summed = num_processes() if self.balance_grads else 1
        out_grad, effective = torch.zeros_like(input), input.new_zeros((), dtype=torch.float32)
        for name, grad in grads.items():
            out_grad += summed * factors[name] * grad
            effective += factors[name] * losses[name].detach().float()
        input.backward(out_grad)
        return effective

    def _gradients(self, losses: tp.Mapping[str, Tensor], input: Tensor) -> dict[str, Tensor]:
        return {
            name: torch.autograd.grad(loss, [input], retain_graph=True)[0]
            for name, loss in losses.items()
            if self.weights[name] or self.balance_grads or self.monitor
        }

    def _norm(self, grad: Tensor) -> Tensor:
        """Norm of a gradient over the batch of all processes; the mean of those of the items."""
        if self.per_batch_item:
            norm = torch.linalg.vector_norm(grad.float().flatten(1), dim=1).mean()
            return sum_over_processes(norm) / num_processes()
        return sum_over_processes(grad.float().square().sum()).sqrt()

    def _average(self, norms: dict[str, Tensor]) -> dict[str, float]:
        """Moving averages of the norms, corrected for their start."""
        found = {name: float(norm) for name, norm in norms.items()}
        infinite = [name for name, norm in found.items() if not math.isfinite(norm)]
        if infinite:
            raise FloatingPointError(f"norm of the gradient of {infinite[0]} is not finite")
        for name, norm in found.items():
            self.sums[name] = self.sums.get(name, 0.0) * self.ema_decay + norm
            self.counts[name] = self.counts.get(name, 0.0) * self.ema_decay + 1
        return {name: self.sums[name] / self.counts[name] for name in found}

    def _factors(self, norms: dict[str, float]) -> dict[str, float]:
        """What each loss is multiplied by."""
        if not self.balance_grads:
            return {name: self.weights[name] for name in norms}
        total = sum(self.weights[name] for name in norms) or 1.0
        return {
            name: self.total_norm * self.weights[name] / total / (norm + self.epsilon)
            for name, norm in norms.items()
        }

    def state_dict(self) -> dict[str, tp.Any]:
        """The moving averages, for a checkpoint."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: tp.Mapping[str, tp.Any]) -> None:
        self.sums = dict(state["sums"])
        self.counts = dict(state["counts"])


def num_processes() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum over all processes, in place; every process has to call it."""
    if num_processes() > 1:
        dist.all_reduce(value)
    return value
