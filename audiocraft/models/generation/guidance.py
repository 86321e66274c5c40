"""Classifier-free guidance: extrapolation of predictions with fewer and more conditions.

The model predicts the same step under several sets of conditions (branches): c with all of them, s
with the style only, u without any. Single guidance is u + α(c − u); double guidance also weights
the text by β relative to the style: u + α(s + β(c − s) − u).

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
from ..lm import Conditions

logger = logging.getLogger(__name__)


class Branch(tp.NamedTuple):
    """A set of conditions, and the weight of its logits in the guided prediction."""

    conditions: Conditions
    weight: float


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance coefficients."""

    cfg_coef: float = 3.0  # α; 1: no guidance, 0: unconditional
    cfg_coef_beta: float | None = None  # β, weight of the text; None: single guidance
    # Run the branches one by one instead of as one batch. A null condition is then one step long
    # instead of as long as the real one, as in released behaviour, which changes the tokens.
    two_step: bool = False

    def __post_init__(self):
        for name in ("cfg_coef", "cfg_coef_beta"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ValueError(f"{name}={value!r} must be a finite number.")

    def expand(self, conditions: Conditions, style_names: tp.Collection[str] = ()) -> list[Branch]:
        """Return the branches with a weight other than zero.

        Args:
            conditions: Conditions of the batch, by name.
            style_names: Names of the conditions from audio; the others are texts.
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
        """Combine the logits of the branches, `[B, K, V]` each, in float32."""
        mixed = logits[0].float() * branches[0].weight
        for branch_logits, branch in zip(logits[1:], branches[1:], strict=True):
            mixed = mixed.add(branch_logits, alpha=branch.weight)
        return mixed

    def _has_style(self, conditions: Conditions, style_names: tp.Collection[str]) -> bool:
        if any(bool(c.mask.any()) for name, c in conditions.items() if name in style_names):
            return True
        _log_single_guidance(self.cfg_coef_beta)
        return False

    def _without(self, conditions: Conditions, names: tp.Collection[str]) -> Conditions:
        num_steps = 1 if self.two_step else None
        return {
            name: null_condition(condition, num_steps) if name in names else condition
            for name, condition in conditions.items()
        }


@cache
def _log_single_guidance(beta: float | None) -> None:
    """Log once that double guidance does not apply."""
    logger.info("cfg_coef_beta=%s has no effect without a style clip.", beta)


def concat_branches(branches: tp.Sequence[Branch]) -> dict[str, Condition]:
    """Concatenate the conditions of branches to one batch, `[branches · B, ...]`."""
    return {
        name: Condition(
            torch.cat([branch.conditions[name].embed for branch in branches]),
            torch.cat([branch.conditions[name].mask for branch in branches]),
        )
        for name in branches[0].conditions
    }
