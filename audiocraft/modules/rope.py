"""Rotary position embedding, optionally with xPos decay.

Queries and keys are rotated by an angle proportional to their position, so that their product
depends on the distance only. With `xpos` it also decays with the distance.

Method: Su et al., 2021, https://arxiv.org/abs/2104.09864; xPos: Sun et al., 2022,
https://arxiv.org/abs/2212.10554.
"""

import torch
from torch import Tensor, nn

XPOS_SMOOTHING = 0.4
XPOS_BASE_SCALE = 512  # steps per power of the decay rate


class XPos(nn.Module):
    """Decay with the distance, at its own rate for each pair of channels."""

    decay_rates: Tensor  # [D / 2]

    def __init__(self, head_dim: int):
        super().__init__()
        rank = torch.arange(0, head_dim, 2).float() / head_dim
        rates = (rank + XPOS_SMOOTHING) / (1 + XPOS_SMOOTHING)
        self.register_buffer("decay_rates", rates)

    def forward(self, positions: Tensor) -> Tensor:
        """Factor of a query at each position, `[S, D / 2]`; that of a key is the inverse."""
        return self.decay_rates.float() ** (positions[:, None] / XPOS_BASE_SCALE)


class RotaryEmbedding(nn.Module):
    """Rotates pairs of neighbouring channels.

    Args:
        head_dim: Width of a head, even.
        max_period: Period of the slowest pair in steps, divided by 2π.
        xpos: Whether attention decays with the distance.
        scale: Scale of the rotation, from 0 (none) to 1.

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
                f"The width per head is {head_dim} but rotary positions need an even one. "
                "Choose another `num_heads`."
            )
        self.scale = scale
        rank = torch.arange(0, head_dim, 2).float() / head_dim
        self.register_buffer("frequencies", 1.0 / max_period**rank)
        self.xpos = XPos(head_dim) if xpos else None

    def forward(self, queries: Tensor, keys: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys, `[B, H, S, D]`, whose first step has position `offset`."""
        num_steps = queries.shape[2]
        positions = torch.arange(offset, offset + num_steps, device=queries.device).float()
        angles = positions[:, None] * self.frequencies.float()
        rotation = torch.polar(torch.ones_like(angles), angles)
        rotation = rotation * self.scale + (1 - self.scale)
        if self.xpos is None:
            return rotate(queries, rotation), rotate(keys, rotation)
        decay = self.xpos(positions)
        query_decay = decay * self.scale + (1 - self.scale)
        key_decay = self.scale / decay + (1 - self.scale)
        return rotate(queries, rotation * query_decay), rotate(keys, rotation * key_decay)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Multiply pairs of channels of `x`, `[..., S, D]`, by complex numbers, `[S, D / 2]`."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
