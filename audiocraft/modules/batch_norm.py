"""Batch norm over the batch of all processes, of which each sees only a part.

Statistics of a part of a batch are not those of the batch: with them, the number of processes
would change what a model learns, and a process without any row would have none at all.

Method: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
"""

import torch
from torch import Tensor, nn
from torch import distributed as dist


class SharedBatchNorm1d(nn.BatchNorm1d):
    """`BatchNorm1d` with the statistics of all processes; they all have to call it in training.

    No row at all, in every process, is allowed and teaches nothing.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[B, D, F]`."""
        if not self.training or not many_processes():
            return super().forward(input) if len(input) else input
        count = sum_over_processes(input.new_tensor(float(input.numel() // self.num_features)))
        if count == 0:
            return input
        mean = sum_over_processes(input.sum(dim=(0, 2))) / count
        centred = input - mean[:, None]
        variance = sum_over_processes(centred.square().sum(dim=(0, 2))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normal = centred * (variance[:, None] + self.eps).rsqrt()
        return normal if self.weight is None else normal * self.weight[:, None] + self.bias[:, None]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as `BatchNorm1d` does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(variance.to(self.running_var), weight)


def many_processes() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """A sum over processes whose gradient is one, too."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum over all processes, with a gradient. Every process has to call it."""
    return _Sum.apply(value) if many_processes() else value  # type: ignore[no-any-return]
