"""Condition fuser: joins conditions with the input of the language model's transformer.

A condition is prepended to the input, added to it, or given to cross attention.
"""

import typing as tp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ..transformer import sin_embedding
from .base import Condition

FUSE_METHODS = ("sum", "prepend", "cross", "input_interpolate", "ignore")


class Fused(tp.NamedTuple):
    """Input of the transformer."""

    x: Tensor  # [B, P + S, D]
    cross: Tensor | None  # [B, X, D], source of the cross attention
    num_prefix: int  # P, prepended steps


class ConditionFuser(nn.Module):
    """Joins conditions and input.

    Conditions are fused in the provider's order, and each `prepend` goes in front of everything
    before it: the last condition comes first.

    Args:
        fuse2cond: Names of the conditions for each fuse method: `sum`, `prepend`, `cross`,
            `input_interpolate` or `ignore`.
        cross_attention_pos_emb: Add sinusoidal positions to the source of the cross attention.
        cross_attention_pos_emb_scale: Scale of these positions.

    Raises:
        ConfigError: A fuse method is unknown, or a condition has two.
    """

    def __init__(
        self,
        fuse2cond: tp.Mapping[str, tp.Sequence[str]],
        cross_attention_pos_emb: bool = False,
        cross_attention_pos_emb_scale: float = 1.0,
    ):
        super().__init__()
        self.cross_attention_pos_emb = cross_attention_pos_emb
        self.cross_attention_pos_emb_scale = cross_attention_pos_emb_scale
        self.method_of: dict[str, str] = {}
        for method, names in fuse2cond.items():
            if method not in FUSE_METHODS:
                raise ConfigError(
                    f"fuser.{method} is not a fuse method. Choose one of: "
                    f"{', '.join(FUSE_METHODS)}."
                )
            if isinstance(names, str):
                raise ConfigError(f"fuser.{method} is {names!r}. Give a list: [{names}].")
            for name in names:
                first = self.method_of.setdefault(name, method)
                if first != method:
                    raise ConfigError(
                        f"The condition {name!r} is listed in both fuser.{first} and "
                        f"fuser.{method}. Keep it in one of them."
                    )

    def method(self, name: str) -> str:
        """Fuse method of a condition.

        Raises:
            ConfigError: The condition is in no list of the fuser.
        """
        if name not in self.method_of:
            raise ConfigError(
                f"The condition {name!r} has no fuse method. Add it to one of the fuser's "
                f"lists: {', '.join(FUSE_METHODS)}."
            )
        return self.method_of[name]

    def names(self, method: str) -> list[str]:
        """Conditions with this fuse method."""
        return [name for name, chosen in self.method_of.items() if chosen == method]

    def forward(self, x: Tensor, conditions: tp.Mapping[str, Condition], offset: int = 0) -> Fused:
        """Fuse consecutive steps of the input with the conditions.

        Args:
            x: Input, `[B, S, D]`; not modified.
            conditions: By name, in the provider's order.
            offset: Steps decoded before `x`; conditions are prepended at offset 0 only.

        Raises:
            ConfigError: A condition has no fuse method, or has a length that cannot be summed.
        """
        cross: list[Tensor] = []
        num_prefix = 0
        for name, condition in conditions.items():
            embed = condition.embed.to(x.dtype)
            match self.method(name):
                case "sum":
                    if embed.shape[1] not in (1, x.shape[1]):
                        raise ConfigError(
                            f"The condition {name!r} has {embed.shape[1]} steps and cannot be "
                            f"summed with {x.shape[1]}. Take it out of fuser.sum: prepend, cross "
                            "and input_interpolate fuse any number."
                        )
                    x = x + embed
                case "input_interpolate":
                    stretched = F.interpolate(embed.transpose(1, 2), size=x.shape[1])
                    x = x + stretched.transpose(1, 2)
                case "prepend" if offset == 0:
                    x = torch.cat([embed, x], dim=1)
                    num_prefix += embed.shape[1]
                case "cross":
                    cross.append(embed)
        return Fused(x, self._join(cross), num_prefix)

    def _join(self, cross: list[Tensor]) -> Tensor | None:
        """Source of the cross attention: its conditions, concatenated."""
        if not cross:
            return None
        joined = torch.cat(cross, dim=1)
        if self.cross_attention_pos_emb:
            steps = torch.arange(joined.shape[1], device=joined.device)
            positions = sin_embedding(steps, joined.shape[2]).to(joined.dtype)
            joined = joined + self.cross_attention_pos_emb_scale * positions
        return joined
