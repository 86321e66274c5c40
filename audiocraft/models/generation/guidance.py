"""Classifier-free guidance: predictions are pushed away from what the model would do anyway.

The model answers the same question several times: `c` with all the conditions, `s` with the style
alone, `u` with none. Single guidance continues the line from `u` to `c`: u + α(c − u). Double
guidance first pushes the text by β, relative to the style: u + α(s + β(c − s) − u).

Method: Ho and Salimans, 2022, https://arxiv.org/abs/2207.12598; double: Rouard et al., 2024,
https://arxiv.org/abs/2407.12563.
"""

import logging
import typing as tp
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ...modules.conditioners.base import Condition, null_condition
from ...utils.numbers import is_number

logger = logging.getLogger(__name__)

Conditions = tp.Mapping[str, Condition]


class Branch(tp.NamedTuple):
    """One of the questions that the model is asked, and the weight of its answer."""

    conditions: Conditions
    weight: float


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly conditions are followed."""

    cfg_coef: float = 3.0  # α; 1 follows the conditions as they are, 0 ignores them
    cfg_coef_beta: float | None = None  # β, pushes the text; None: single guidance
    # Ask one question at a time. A null condition is then one step long instead of as long as
    # the real one, as released behaviour has it, which gives other tokens.
    two_step: bool = False

    def __post_init__(self):
        for name in ("cfg_coef", "cfg_coef_beta"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ValueError(f"{name} must be a number but is {value!r}.")

    def expand(self, conditions: Conditions, style_names: tp.Collection[str] = ()) -> list[Branch]:
        """The questions to ask; those whose answer would not count are left out.

        Args:
            conditions: Of the batch, by name.
            style_names: Those that are clips; the others are texts.
        """
        if not any(bool(condition.mask.any()) for condition in conditions.values()):
            return [Branch(conditions, 1.0)]
        alpha, beta = self.cfg_coef, self.cfg_coef_beta
        if beta is None or not self._has_style(conditions, style_names):
            beta = 1.0
        texts = [name for name in conditions if name not in style_names]
        branches = [
            Branch(conditions, alpha * beta),
            Branch(self._without(conditions, texts), alpha * (1 - beta)),
            Branch(self._without(conditions, conditions), 1 - alpha),
        ]
        return [branch for branch in branches if branch.weight != 0]

    def mix(self, logits: tp.Sequence[Tensor], branches: tp.Sequence[Branch]) -> Tensor:
        """Combine the answers, `[B, K, V]` each, to one in float32."""
        mixed = logits[0].float() * branches[0].weight
        for answer, branch in zip(logits[1:], branches[1:], strict=True):
            mixed = mixed.add(answer, alpha=branch.weight)
        return mixed

    def _has_style(self, conditions: Conditions, style_names: tp.Collection[str]) -> bool:
        if any(bool(c.mask.any()) for name, c in conditions.items() if name in style_names):
            return True
        _tell_of_single_guidance(self.cfg_coef_beta)
        return False

    def _without(self, conditions: Conditions, names: tp.Collection[str]) -> Conditions:
        num_steps = 1 if self.two_step else None
        return {
            name: null_condition(condition, num_steps) if name in names else condition
            for name, condition in conditions.items()
        }


@cache
def _tell_of_single_guidance(beta: float | None) -> None:
    """Say once that there is no style to push the text against."""
    logger.info("cfg_coef_beta=%s needs a style clip: without one, guidance is single.", beta)


def join(branches: tp.Sequence[Branch]) -> dict[str, Condition]:
    """Conditions of all the branches as one batch, `[branches · B, ...]`."""
    return {
        name: Condition(
            torch.cat([branch.conditions[name].embed for branch in branches]),
            torch.cat([branch.conditions[name].mask for branch in branches]),
        )
        for name in branches[0].conditions
    }
