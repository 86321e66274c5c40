"""Learning rates as functions of the number of updates.

A rule is a plain function `(step, base) -> rate`: `step` counts the updates made so far and `base`
is the rate of a parameter group, as its optimizer was built. Rules hold no state, so a run that is
resumed, or made longer, goes on as if it had never stopped.
"""

import math
import typing as tp

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Rule = tp.Callable[[int, float], float]


class Schedule(LRScheduler):
    """Sets the rates of an optimizer before the first update and after each one.

    Args:
        optimizer: Whose rates are set.
        rule: The rate after `step` updates, given the rate that the group was built with.
    """

    def __init__(self, optimizer: Optimizer, rule: Rule):
        self.rule = rule
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        return [self.rule(self.last_epoch, float(base)) for base in self.base_lrs]

    def state_dict(self) -> dict[str, tp.Any]:
        """Plain values only; the rule comes from the configuration."""
        return {key: value for key, value in super().state_dict().items() if key != "rule"}


def step(*, step_size: int, gamma: float) -> Rule:
    """Multiply the rate by `gamma` every `step_size` updates."""
    return lambda count, base: base * gamma ** (count // step_size)


def exponential(*, lr_decay: float) -> Rule:
    """Multiply the rate by `lr_decay` at every update."""
    return lambda count, base: base * lr_decay**count


def linear_warmup(*, warmup_steps: int, warmup_init_lr: float = 0.0) -> Rule:
    """Rise in a straight line from `warmup_init_lr`, then stay."""

    def rate(count: int, base: float) -> float:
        if count < warmup_steps:
            return warmup_init_lr + (base - warmup_init_lr) * count / warmup_steps
        return base

    return rate


def cosine(
    *, total_steps: int, warmup_steps: int = 0, lr_min_ratio: float = 0.0, cycle_length: float = 1.0
) -> Rule:
    """Rise in a straight line from zero, then fall along a cosine.

    Args:
        total_steps: Updates of the whole run; afterwards the rate stays at its minimum.
        warmup_steps: Updates of the rise.
        lr_min_ratio: The minimum, as a share of the highest rate.
        cycle_length: Share of the fall's time that half a cosine takes; with less than 1 the rate
            rises again.
    """

    def rate(count: int, base: float) -> float:
        if count < warmup_steps:
            return base * count / warmup_steps
        if count > total_steps:
            return base * lr_min_ratio
        elapsed = (count - warmup_steps) / max(1, total_steps - warmup_steps)
        height = (1 + math.cos(math.pi * elapsed / cycle_length)) / 2
        return base * (lr_min_ratio + (1 - lr_min_ratio) * height)

    return rate


def polynomial_decay(
    *,
    total_steps: int,
    warmup_steps: int = 0,
    zero_lr_warmup_steps: int = 0,
    end_lr: float = 0.0,
    power: float = 1.0,
) -> Rule:
    """Stay at zero, rise in a straight line, then fall to `end_lr` like a power of the time left.

    Args:
        total_steps: Updates of the whole run; afterwards the rate stays at `end_lr`.
        warmup_steps: Updates of the rise.
        zero_lr_warmup_steps: Updates at rate zero, before the rise.
        end_lr: The last rate.
        power: 1 falls in a straight line.
    """
    start = zero_lr_warmup_steps + warmup_steps  # of the fall

    def rate(count: int, base: float) -> float:
        if count < zero_lr_warmup_steps:
            return 0.0
        if count < start:
            return base * (count - zero_lr_warmup_steps) / warmup_steps
        if count >= total_steps:
            return end_lr
        left = (total_steps - count) / (total_steps - start)
        return end_lr + (base - end_lr) * left**power

    return rate


def inverse_sqrt(*, warmup_steps: int, warmup_init_lr: float = 0.0) -> Rule:
    """Rise in a straight line, then fall like one over the square root of the update's number."""
    warmup_steps = max(1, warmup_steps)

    def rate(count: int, base: float) -> float:
        number = count + 1  # of the update that will use this rate, counted from one
        if number < warmup_steps:
            return warmup_init_lr + (base - warmup_init_lr) * number / warmup_steps
        return base * math.sqrt(warmup_steps / number)

    return rate
