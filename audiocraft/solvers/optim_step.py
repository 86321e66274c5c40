"""One update of the weights, by the gradients of one or more pieces of a batch."""

import contextlib
import math
import typing as tp

import torch
from flashy.distrib import eager_sync_model, sync_model
from torch import Tensor, nn

from ..errors import ConfigError
from .sharding import as_float


class OptimizerStep:
    """Moves weights; `add` a loss for every piece of a batch, then `step`.

    Args:
        model: What learns.
        optimizer: How.
        scaler: Of gradients in float16; a disabled one leaves them alone.
        lr_scheduler: Stepped at every update.
        ema: Takes the new weights into its average.
        max_norm: Gradients are clipped to this norm; 0 or `None`: not.
        eager_sync: Send gradients to the other processes while the backward pass runs.
        is_sharded: The model averages gradients over processes by itself.

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
                f"optim.max_norm is {max_norm}: a norm is positive. 0 or null does not clip."
            )
        self.max_norm = max_norm or math.inf
        self.eager_sync = eager_sync
        self.is_sharded = is_sharded

    def add(self, loss: Tensor, number: int = 0, of: int = 1) -> None:
        """Take in the loss of piece `number` of a batch of `of` pieces: their mean is learnt."""
        is_last = number == of - 1
        if self.is_sharded:
            self.model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        # Gradients can be sent on the way only where they come once.
        eager = self.eager_sync and of == 1 and not self.is_sharded
        with eager_sync_model(self.model) if eager else contextlib.nullcontext():
            self.scaler.scale(loss / of).backward()
        if is_last and not eager and not self.is_sharded:
            sync_model(self.model)

    def step(self) -> dict[str, float]:
        """Move the weights; returns the learning rate and the norm of the gradient.

        Raises:
            FloatingPointError: The gradient is no number; the weights are as they were. A scaler
                that is in use leaves such an update out instead, and goes on with a lower scale.
        """
        metrics = {"lr": self.optimizer.param_groups[0]["lr"]}
        self.scaler.unscale_(self.optimizer)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        metrics["grad_norm"] = as_float(torch.nn.utils.clip_grad_norm_(learning, self.max_norm))
        if not (math.isfinite(metrics["grad_norm"]) or self.scaler.is_enabled()):
            raise FloatingPointError(f"norm of the gradient became {metrics['grad_norm']}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        if self.ema is not None:
            self.ema.step()
        return metrics


def divergence_error(what: str, where: str, sig: str, is_saved: bool) -> ConfigError:
    """The error of a run whose numbers are none any more.

    Args:
        what: What happened, such as `loss became nan`.
        where: Epoch and stage.
        sig: Of the experiment.
        is_saved: It has a checkpoint.
    """
    saved, start = "Nothing had been saved yet", ""
    if is_saved:
        saved = "What was saved before is untouched"
        start = f", which can start from continue_from=//sig/{sig}"
    return ConfigError(
        f"The {what} in {where}. {saved}. Lower optim.lr, set optim.max_norm, or use "
        "autocast=false or autocast_dtype=bfloat16; changed settings are another "
        f"experiment{start}."
    )


def check_accumulation(accumulate: int, batch_size: int, world_size: int) -> None:
    """See that a batch divides into pieces.

    Raises:
        ConfigError: It does not; the message names a batch size that does.
    """
    if not isinstance(accumulate, int) or accumulate < 1:
        raise ConfigError(f"optim.accumulate must be at least 1 but is {accumulate!r}.")
    pieces = accumulate * world_size
    if batch_size % pieces:
        raise ConfigError(
            f"dataset.batch_size is {batch_size}, which does not divide by optim.accumulate="
            f"{accumulate} pieces on each of {world_size} processes. Choose a multiple of "
            f"{pieces}, such as {-(-batch_size // pieces) * pieces}."
        )
