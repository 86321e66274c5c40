"""Rotary positions: queries and keys are turned by an angle that grows with their position.

The product of a query and a key then depends on their distance only. With `xpos` it also decays
with that distance.

Method: Su et al., 2021, https://arxiv.org/abs/2104.09864; xPos: Sun et al., 2022,
https://arxiv.org/abs/2212.10554.
"""

import torch
from torch import Tensor, nn

XPOS_SMOOTHING = 0.4
XPOS_BASE_SCALE = 512  # steps after which the decay has acted once


class XPos(nn.Module):
    """How fast each pair of channels forgets."""

    decay_rates: Tensor  # [D / 2]

    def __init__(self, head_dim: int):
        super().__init__()
        rank = torch.arange(0, head_dim, 2).float() / head_dim
        rates = (rank + XPOS_SMOOTHING) / (1 + XPOS_SMOOTHING)
        self.register_buffer("decay_rates", rates)

    def forward(self, positions: Tensor) -> Tensor:
        """Factor of a query at each position, `[S, D / 2]`; a key takes its inverse."""
        return self.decay_rates.float() ** (positions[:, None] / XPOS_BASE_SCALE)


class RotaryEmbedding(nn.Module):
    """Turns pairs of neighbouring channels.

    Args:
        head_dim: Width of a head, even.
        max_period: Steps per turn of the slowest pair, divided by 2π.
        xpos: Let attention decay with the distance.
        scale: Strength, from 0 (no positions) to 1.

    Raises:
        ValueError: `head_dim` is odd.
    """

    frequencies: Tensor  # [D / 2], radians per step

    def __init__(
        self, head_dim: int, max_period: float = 10000.0, xpos: bool = False, scale: float = 1.0
    ):
        super().__init__()
        if head_dim % 2:
            raise ValueError(
                f"Rotary positions need an even width per head but it is {head_dim}. "
                "Choose another number of heads."
            )
        self.scale = scale
        rank = torch.arange(0, head_dim, 2).float() / head_dim
        self.register_buffer("frequencies", 1.0 / max_period**rank)
        self.xpos = XPos(head_dim) if xpos else None

    def forward(self, queries: Tensor, keys: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Turn queries and keys, `[B, H, S, D]`, whose first step has position `offset`."""
        num_steps = queries.shape[2]
        positions = torch.arange(offset, offset + num_steps, device=queries.device).float()
        angles = positions[:, None] * self.frequencies.float()
        turn = torch.polar(torch.ones_like(angles), angles)
        turn = turn * self.scale + (1 - self.scale)
        if self.xpos is None:
            return rotate(queries, turn), rotate(keys, turn)
        decay = self.xpos(positions)
        query_decay = decay * self.scale + (1 - self.scale)
        key_decay = self.scale / decay + (1 - self.scale)
        return rotate(queries, turn * query_decay), rotate(keys, turn * key_decay)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Multiply pairs of channels of `x`, `[..., S, D]`, by complex numbers, `[S, D / 2]`."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
