"""Interface of discriminators: several sub-discriminators of one waveform."""

import typing as tp
from abc import ABC, abstractmethod

from torch import Tensor, nn

Logits = list[Tensor]  # of each sub-discriminator: one number per region, real above fake
FeatureMaps = list[list[Tensor]]  # outputs of the layers of each sub-discriminator


class MultiDiscriminator(ABC, nn.Module):
    """Several sub-discriminators, each of which judges the waveform in its own representation."""

    discriminators: nn.ModuleList

    @property
    def num_discriminators(self) -> int:
        """Number of sub-discriminators."""
        return len(self.discriminators)

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Logits, FeatureMaps]:
        """Waveforms `[B, C, T]` to logits and feature maps."""


def apply_layers(
    x: Tensor, convs: tp.Iterable[nn.Module], act: nn.Module
) -> tuple[Tensor, list[Tensor]]:
    """Apply convolutions, each followed by the activation; also return every result."""
    maps = []
    for conv in convs:
        x = act(conv(x))
        maps.append(x)
    return x, maps
