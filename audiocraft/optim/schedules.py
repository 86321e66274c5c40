"""Learning rate schedules: rules, and PyTorch schedulers that apply them.

A rule is a function `(step, base) -> rate` of the number of updates so far and the initial rate of
a parameter group. Rules hold no state, so a run that is resumed with other settings continues as
if it had always had them; PyTorch's own schedulers multiply the previous rate instead.
"""

import math
import typing as tp

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Rule = tp.Callable[[int, float], float]


class Schedule(LRScheduler):
    """Sets the learning rates of an optimizer by a rule.

    Args:
        optimizer: The optimizer.
        rule: Learning rate after a number of updates, given the initial rate of the group.
    """

    def __init__(self, optimizer: Optimizer, rule: Rule):
        self.rule = rule
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        return [self.rule(self.last_epoch, float(base)) for base in self.base_lrs]

    def state_dict(self) -> dict[str, tp.Any]:
        """State without the rule, which is part of the configuration."""
        return {key: value for key, value in super().state_dict().items() if key != "rule"}


def step(*, step_size: int, gamma: float) -> Rule:
    """Multiply the rate by `gamma` every `step_size` updates."""
    return lambda count, base: base * gamma ** (count // step_size)


def exponential(*, lr_decay: float) -> Rule:
    """Multiply the rate by `lr_decay` at every update."""
    return lambda count, base: base * lr_decay**count


def linear_warmup(*, warmup_steps: int, warmup_init_lr: float = 0.0) -> Rule:
    """Linear warmup from `warmup_init_lr`, then constant."""

    def rate(count: int, base: float) -> float:
        if count < warmup_steps:
            return warmup_init_lr + (base - warmup_init_lr) * count / warmup_steps
        return base

    return rate


def cosine(
    *, total_steps: int, warmup_steps: int = 0, lr_min_ratio: float = 0.0, cycle_length: float = 1.0
) -> Rule:
    """Linear warmup from zero, then cosine decay.

    Args:
        total_steps: Updates of the whole run; afterwards the rate stays at its minimum.
        warmup_steps: Updates of the warmup.
        lr_min_ratio: Minimum, as a share of the highest rate.
        cycle_length: Duration of half a cosine, as a share of the decay's; below 1 the rate rises
            again.
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
    """Zero, then linear warmup, then polynomial decay to `end_lr`.

    Args:
        total_steps: Updates of the whole run; afterwards the rate stays at `end_lr`.
        warmup_steps: Updates of the warmup.
        zero_lr_warmup_steps: Updates at rate zero, before the warmup.
        end_lr: Final rate.
        power: Exponent of the remaining share of the decay; 1 is linear.
    """
    start = zero_lr_warmup_steps + warmup_steps  # of the decay

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
    """Linear warmup, then decay with the inverse square root of the update's number."""
    warmup_steps = max(1, warmup_steps)

    def rate(count: int, base: float) -> float:
        number = count + 1  # of the update with this rate, counted from 1
        if number < warmup_steps:
            return warmup_init_lr + (base - warmup_init_lr) * number / warmup_steps
        return base * math.sqrt(warmup_steps / number)

    return rate


class LinearWarmupLRScheduler(Schedule):
    """Schedule of `linear_warmup`."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, warmup_init_lr: float = 0.0):
        rule = linear_warmup(warmup_steps=warmup_steps, warmup_init_lr=warmup_init_lr)
        super().__init__(optimizer, rule)


class CosineLRScheduler(Schedule):
    """Schedule of `cosine`."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup_steps: int = 0,
        lr_min_ratio: float = 0.0,
        cycle_length: float = 1.0,
    ):
        rule = cosine(
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            lr_min_ratio=lr_min_ratio,
            cycle_length=cycle_length,
        )
        super().__init__(optimizer, rule)


class PolynomialDecayLRScheduler(Schedule):
    """Schedule of `polynomial_decay`."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        end_lr: float = 0.0,
        zero_lr_warmup_steps: int = 0,
        power: float = 1.0,
    ):
        rule = polynomial_decay(
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            zero_lr_warmup_steps=zero_lr_warmup_steps,
            end_lr=end_lr,
            power=power,
        )
        super().__init__(optimizer, rule)


class InverseSquareRootLRScheduler(Schedule):
    """Schedule of `inverse_sqrt`."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int, warmup_init_lr: float = 0.0):
        rule = inverse_sqrt(warmup_steps=warmup_steps, warmup_init_lr=warmup_init_lr)
        super().__init__(optimizer, rule)
