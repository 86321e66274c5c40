"""Condition dropout: sets conditions to null in training.

Each decision is taken once for the whole batch, as released checkpoints were trained: a batch
either has its texts or has none. `draw` is random, `apply` is deterministic.
"""

import typing as tp
from dataclasses import dataclass, field

import torch

from ...data.conditions import ConditioningAttributes, drop_conditions

Dropped = dict[str, list[str]]  # names of dropped attributes, by kind ("text" or "wav")


@dataclass(frozen=True)
class AttributeDropout:
    """Drops each attribute with its own probability.

    Args:
        p: Probability of dropping, by kind then by name, such as
            `{"text": {"description": 0.4}, "wav": {"self_wav": 0.4}}`.
        active_on_eval: Also drop outside training.
    """

    p: tp.Mapping[str, tp.Mapping[str, float]] = field(default_factory=dict)
    active_on_eval: bool = False

    def __post_init__(self):
        for kind, names in self.p.items():
            if kind not in ("text", "wav"):
                raise ValueError(
                    f"attribute_dropout.{kind} is not a kind of condition. Use text or wav."
                )
            for name, drop_p in names.items():
                _check_probability(f"attribute_dropout.{kind}.{name}", drop_p)

    def draw(self, rng: torch.Generator) -> Dropped:
        """Draw once per attribute; returns the names to drop."""
        return {
            kind: [
                name
                for name, drop_p in self.p.get(kind, {}).items()
                if torch.rand(1, generator=rng).item() < drop_p
            ]
            for kind in ("text", "wav")
        }

    def apply(
        self, attributes: list[ConditioningAttributes], dropped: Dropped
    ) -> list[ConditioningAttributes]:
        """Copies of the attributes without those in `dropped`."""
        return [drop_conditions(sample, **dropped) for sample in attributes]

    def __call__(
        self, attributes: list[ConditioningAttributes], rng: torch.Generator | None, training: bool
    ) -> list[ConditioningAttributes]:
        """Draw and apply; outside training nothing is drawn unless `active_on_eval`."""
        if rng is None or not (training or self.active_on_eval):
            return attributes
        return self.apply(attributes, self.draw(rng))


@dataclass(frozen=True)
class ClassifierFreeGuidanceDropout:
    """Drops all conditions at once, so that the model also learns the unconditional distribution.

    Method: Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598.

    Args:
        p: Probability of dropping all the conditions of a batch.
    """

    p: float = 0.0

    def __post_init__(self):
        _check_probability("classifier_free_guidance.training_dropout", self.p)

    def draw(self, rng: torch.Generator) -> bool:
        """Draw whether the conditions of one batch are dropped."""
        return torch.rand(1, generator=rng).item() < self.p

    def apply(self, attributes: list[ConditioningAttributes]) -> list[ConditioningAttributes]:
        """Copies of the attributes in which every condition is null."""
        return [drop_conditions(sample, text=sample.text, wav=sample.wav) for sample in attributes]

    def __call__(
        self, attributes: list[ConditioningAttributes], rng: torch.Generator | None, training: bool
    ) -> list[ConditioningAttributes]:
        """Draw and apply; outside training nothing is drawn."""
        if rng is None or not training or not self.draw(rng):
            return attributes
        return self.apply(attributes)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a probability between 0 and 1 but is {value}.")
