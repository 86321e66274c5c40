"""Schedule of adversarial training: when discriminators are updated, and when their losses count.

A run has three phases: without discriminators, discriminators alone while the generator is frozen
(a warm start whose discriminators are new), and both.
"""

import typing as tp
from enum import Enum

import torch
from omegaconf import DictConfig

from ..errors import ConfigError
from ..utils.numbers import is_integer

EVERY_SEED = 1234  # plus the epoch; that of the original


class Phase(Enum):
    """Part of a run."""

    GENERATOR = "the codec alone"
    DISCRIMINATORS = "the discriminators alone"
    BOTH = "codec and discriminators"


class AdversarialSchedule:
    """Counts the updates of a run; part of its checkpoints.

    Args:
        start: Updates at the beginning without discriminators.
        warmup: Updates after that in which only discriminators learn.
        every: A discriminator is updated with probability 1 / `every`.
        active: Whether there are discriminators at all.

    Raises:
        ConfigError: A number is negative, or `every` less than 1.
    """

    def __init__(self, start: int = 0, warmup: int = 0, every: int = 1, active: bool = True):
        for key, value, least in (("start", start, 0), ("warmup", warmup, 0), ("every", every, 1)):
            if not is_integer(value) or value < least:
                raise ConfigError(f"adversarial.{key}={value!r}: give an integer from {least}.")
        self.start = start
        self.warmup = warmup
        self.every = every
        self.active = active
        self.updates = 0
        self._epoch, self._position = -1, 0
        self._generator = torch.Generator()

    @property
    def phase(self) -> Phase:
        """Phase of the next update."""
        if not self.active or self.updates < self.start:
            return Phase.GENERATOR
        if self.updates < self.start + self.warmup:
            return Phase.DISCRIMINATORS
        return Phase.BOTH

    def draw(self, epoch: int, idx: int) -> bool:
        """Whether update `idx` of an epoch also updates the discriminators.

        The draws of an epoch do not depend on where a run resumes in it.
        """
        if self.every <= 1:
            return True
        if epoch != self._epoch or idx < self._position:
            self._epoch, self._position = epoch, 0
            self._generator.manual_seed(EVERY_SEED + epoch)
        value = 1.0
        while self._position <= idx:
            value = float(torch.rand(1, generator=self._generator))
            self._position += 1
        return value <= 1 / self.every

    def advance(self) -> None:
        """Count one update."""
        self.updates += 1

    def state_dict(self) -> dict[str, tp.Any]:
        return {"updates": self.updates, "warmup": self.warmup}

    def load_state_dict(self, state: tp.Mapping[str, tp.Any]) -> None:
        self.updates = state["updates"]
        self.warmup = state["warmup"]


def get_adversarial_schedule(node: DictConfig, active: bool) -> AdversarialSchedule:
    """Build the schedule of the node `adversarial`; a warm start may add a warm-up."""
    return AdversarialSchedule(node.start, node.warmup or 0, node.every, active)
