"""Optimizer step: gradient accumulation over micro-batches, clipping, scheduler and EMA."""

import contextlib
import math
import typing as tp

import torch
from flashy.distrib import eager_sync_model, sync_model
from torch import Tensor, nn

from ..errors import ConfigError
from .sharding import full_tensor


class OptimizerStep:
    """One update of the weights: `backward` for each micro-batch, then `step`.

    Args:
        model: Module whose parameters are updated.
        optimizer: Optimizer of those parameters.
        scaler: Loss scaler for float16 gradients; may be disabled.
        lr_scheduler: Stepped once per update.
        ema: Moving average of the weights, updated once per update.
        max_norm: Gradients are clipped to this norm; 0 or `None` disables clipping.
        eager_sync: Average gradients over processes during the backward pass.
        is_sharded: The model averages gradients over processes itself (FSDP).

    Raises:
        ConfigError: `max_norm` is negative.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        scaler: torch.amp.GradScaler,  # type: ignore[name-defined]
        lr_scheduler: tp.Any = None,
        ema: tp.Any = None,
        max_norm: float | None = None,
        eager_sync: bool = True,
        is_sharded: bool = False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self.lr_scheduler = lr_scheduler
        self.ema = ema
        if max_norm is not None and not max_norm >= 0:
            raise ConfigError(
                f"optim.max_norm is {max_norm} but must be 0 or more. 0 or null disables clipping."
            )
        self.max_norm = max_norm or math.inf
        self.eager_sync = eager_sync
        self.is_sharded = is_sharded

    def backward(self, loss: Tensor, index: int = 0, count: int = 1) -> None:
        """Accumulate the gradient of micro-batch `index` of `count`; losses are averaged."""
        is_last = index == count - 1
        if self.is_sharded:
            self.model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        # Averaging during the backward pass requires that each gradient is final.
        eager = self.eager_sync and count == 1 and not self.is_sharded
        with eager_sync_model(self.model) if eager else contextlib.nullcontext():
            self.scaler.scale(loss / count).backward()
        if is_last and not eager and not self.is_sharded:
            sync_model(self.model)

    def step(self) -> dict[str, float | Tensor]:
        """Clip the gradient and update weights, learning rate and moving average.

        Nothing is read back from the device: a gradient that is not finite shows in `grad_norm`.

        Returns:
            `lr`, the learning rate of this update, and `grad_norm`, a scalar on the device.
        """
        lr = self.optimizer.param_groups[0]["lr"]
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        if self.ema is not None:
            self.ema.step()
        return {"lr": lr, "grad_norm": full_tensor(grad_norm)}


def divergence_error(what: str, where: str, sig: str, is_saved: bool) -> ConfigError:
    """Build the error of a run whose loss or gradient is not finite.

    Args:
        what: What happened, such as `loss became nan`.
        where: Epoch and stage.
        sig: Signature of the experiment.
        is_saved: Whether the experiment has a checkpoint.
    """
    saved, start = "No checkpoint has been saved yet", ""
    if is_saved:
        saved = "The last checkpoint is unaffected"
        start = f", which can start from it with continue_from=//sig/{sig}"
    return ConfigError(
        f"The {what} in {where}. {saved}. Lower optim.lr, set optim.max_norm, or use "
        "autocast=false or autocast_dtype=bfloat16; changed settings make a new "
        f"experiment{start}."
    )


def check_accumulation(accumulate: int, batch_size: int, world_size: int) -> None:
    """Check that a batch divides into micro-batches of equal size.

    Raises:
        ConfigError: It does not; the message names a batch size that does.
    """
    if not isinstance(accumulate, int) or accumulate < 1:
        raise ConfigError(
            f"optim.accumulate is {accumulate!r} but must be a whole number from 1 (micro-batches)."
        )
    count = accumulate * world_size
    if batch_size % count:
        raise ConfigError(
            f"dataset.batch_size is {batch_size}, which is not divisible by optim.accumulate="
            f"{accumulate} micro-batches on each of {world_size} processes. Choose a multiple of "
            f"{count}, such as {-(-batch_size // count) * count}."
        )
