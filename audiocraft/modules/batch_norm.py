"""Batch norm over the batch of all processes.

With the statistics of one process's part of the batch, the number of processes would change what
a model learns, and a process without any row would have none.

Method: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
"""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from ..quantization.codebook import is_distributed


class SharedBatchNorm1d(nn.BatchNorm1d):
    """`BatchNorm1d` with the statistics of all processes; in training all of them must call it.

    A batch without any row, in all processes, leaves the statistics unchanged.
    """

    def forward(self, input: Tensor, update: bool = True) -> Tensor:
        """Normalise `[B, D, F]`.

        Args:
            input: Features, `[B, D, F]`; B may be 0.
            update: In training mode, use and follow the statistics of the batch; `False` uses the
                running statistics, as in evaluation mode.
        """
        if not (self.training and update):
            return self._normalize(input)
        if not is_distributed():
            return super().forward(input) if len(input) else input
        count = sum_over_processes(input.new_tensor(float(input.numel() // self.num_features)))
        present = (count > 0).to(count)  # stays on the device: the host need not wait
        mean = sum_over_processes(input.sum(dim=(0, 2))) / count.clamp(min=1)
        centred = input - mean[:, None]
        variance = sum_over_processes(centred.square().sum(dim=(0, 2))) / count.clamp(min=1)
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        self._follow(mean.detach(), unbiased, present)
        normal = centred * (variance[:, None] + self.eps).rsqrt()
        return normal if self.weight is None else normal * self.weight[:, None] + self.bias[:, None]

    def _normalize(self, input: Tensor) -> Tensor:
        """Normalise with the running statistics."""
        if not len(input):
            return input
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(input, mean, variance, self.weight, self.bias, False, 0.0, self.eps)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, present: Tensor) -> None:
        """Update the running statistics as `BatchNorm1d` does, where `present` is 1."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked += present.long()
        if self.momentum is None:
            weight = present / self.num_batches_tracked.clamp(min=1)
        else:
            weight = present * self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight.to(self.running_mean))
        self.running_var.lerp_(variance.to(self.running_var), weight.to(self.running_var))


class _Sum(torch.autograd.Function):
    """Sum over processes whose gradient is the sum of all processes' gradients."""

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
    """Sum over all processes, with a gradient. Every process has to call it."""
    return _Sum.apply(value) if is_distributed() else value  # type: ignore[no-any-return]
