"""How conditions reach the language model: in front of its input, added to it, or beside it."""

import typing as tp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ..transformer import sin_embedding
from .base import Condition

WAYS = ("sum", "prepend", "cross", "input_interpolate", "ignore")


class Fused(tp.NamedTuple):
    """Input of the transformer."""

    x: Tensor  # [B, P + S, D]
    cross: Tensor | None  # [B, X, D], what cross attention reads
    num_prefix: int  # P, steps that were put in front


class ConditionFuser(nn.Module):
    """Joins conditions and input.

    Conditions are visited in the order in which the provider gives them, and each `prepend` goes
    in front of what is there: the last one visited comes first.

    Args:
        fuse2cond: For each way (`sum`, `prepend`, `cross`, `input_interpolate`, `ignore`) the
            names of the conditions that go it.
        cross_attention_pos_emb: Add sinusoidal positions to what cross attention reads.
        cross_attention_pos_emb_scale: Their scale.

    Raises:
        ConfigError: An unknown way, or a condition with two ways.
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
        self.way_of: dict[str, str] = {}
        for way, names in fuse2cond.items():
            if way not in WAYS:
                raise ConfigError(f"fuser.{way} is no way to fuse. Use one of: {', '.join(WAYS)}.")
            if isinstance(names, str):
                raise ConfigError(f"fuser.{way} is {names!r}. Give a list: [{names}].")
            for name in names:
                if self.way_of.setdefault(name, way) != way:
                    raise ConfigError(
                        f"The condition {name!r} is fused both by {self.way_of[name]!r} and by "
                        f"{way!r}. Keep it in one list of the fuser."
                    )

    def way(self, name: str) -> str:
        """How a condition is fused.

        Raises:
            ConfigError: Nothing says it.
        """
        if name not in self.way_of:
            raise ConfigError(
                f"Nothing says how to fuse the condition {name!r}. Put it into one of the fuser's "
                f"lists: {', '.join(WAYS)}."
            )
        return self.way_of[name]

    def names(self, way: str) -> list[str]:
        """Conditions that are fused in one way."""
        return [name for name, chosen in self.way_of.items() if chosen == way]

    def forward(self, x: Tensor, conditions: tp.Mapping[str, Condition], offset: int = 0) -> Fused:
        """Fuse one stretch of input with the conditions.

        Args:
            x: Input, `[B, S, D]`. It is not changed.
            conditions: By name, in the provider's order.
            offset: Steps decoded before `x`; prefixes are only put in front of the first.

        Raises:
            ConfigError: A condition that the fuser does not know, or that cannot be summed.
        """
        cross: list[Tensor] = []
        num_prefix = 0
        for name, condition in conditions.items():
            embed = condition.embed.to(x.dtype)
            match self.way(name):
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
        """What cross attention reads: all its conditions one after the other."""
        if not cross:
            return None
        joined = torch.cat(cross, dim=1)
        if self.cross_attention_pos_emb:
            steps = torch.arange(joined.shape[1], device=joined.device)
            positions = sin_embedding(steps, joined.shape[2]).to(joined.dtype)
            joined = joined + self.cross_attention_pos_emb_scale * positions
        return joined
