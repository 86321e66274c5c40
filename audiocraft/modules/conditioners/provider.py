"""Condition provider: all conditioners of a model."""

import typing as tp

from torch import nn

from ...data.conditions import ConditioningAttributes, collate_texts, collate_wavs, drop_conditions
from .base import BaseConditioner, Condition, Rng, TextConditioner, WavConditioner


class ConditionProvider(nn.Module):
    """Passes every attribute of a batch to the conditioner of the same name.

    Texts come first, then clips, in the order of `conditioners`. The fuser prepends one after the
    other, so the sequence becomes `[self_wav, description, codes]` for any order in the
    configuration: released checkpoints were trained so.

    Args:
        conditioners: By the name of the attribute that each encodes.
    """

    def __init__(self, conditioners: tp.Mapping[str, BaseConditioner]):
        super().__init__()
        self.conditioners = nn.ModuleDict(dict(conditioners))

    @property
    def text_conditions(self) -> list[str]:
        """Names of the text attributes."""
        return [n for n, c in self.conditioners.items() if isinstance(c, TextConditioner)]

    @property
    def wav_conditions(self) -> list[str]:
        """Names of the clip attributes."""
        return [n for n, c in self.conditioners.items() if not isinstance(c, TextConditioner)]

    def without_short_clips(self, attributes: ConditioningAttributes) -> ConditioningAttributes:
        """Copy of the attributes in which clips shorter than the evaluation excerpt are null."""
        short = []
        for name in self.wav_conditions:
            clip, conditioner = attributes.wav.get(name), tp.cast(WavConditioner, self._named(name))
            if clip is not None and not conditioner.is_long_enough(
                int(clip.length), clip.sample_rate[0]
            ):
                short.append(name)
        return drop_conditions(attributes, wav=short)

    def prepare(
        self, attributes: list[ConditioningAttributes], rng: Rng = None
    ) -> dict[str, tp.Any]:
        """Collate, tokenize and make all random decisions, on the CPU.

        A missing attribute is a null condition; one without a conditioner is ignored.

        Args:
            attributes: Conditions of every sample of the batch.
            rng: Random generators; see `BaseConditioner.prepare`.
        """
        prepared = {}
        for name in self.text_conditions:
            prepared[name] = self._named(name).prepare(collate_texts(attributes, name), rng)
        for name in self.wav_conditions:
            prepared[name] = self._named(name).prepare(collate_wavs(attributes, name), rng)
        return prepared

    def forward(self, prepared: tp.Mapping[str, tp.Any]) -> dict[str, Condition]:
        """Conditions of a prepared batch, by name, texts first."""
        return {name: self.conditioners[name](value) for name, value in prepared.items()}

    def _named(self, name: str) -> BaseConditioner:
        return tp.cast(BaseConditioner, self.conditioners[name])
