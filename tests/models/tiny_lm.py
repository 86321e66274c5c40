"""Small language models for tests, with given instead of computed conditions."""

import torch
from torch import nn

from audiocraft.models.lm import LMModel
from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
from audiocraft.modules.conditioners.base import Condition
from audiocraft.modules.conditioners.fuser import ConditionFuser

DIM, CARD, CODEBOOKS = 16, 12, 3
STYLE_IN_FRONT = {"prepend": ["self_wav", "description"]}
TEXT_BESIDE = {"cross": ["description"]}


class GivenConditions(nn.Module):
    """Stub of the condition provider."""

    wav_conditions = ("self_wav",)


def build(fuse2cond=STYLE_IN_FRONT, provider=None, **options) -> LMModel:
    """A tiny model in eval mode with clearly different predictions."""
    torch.manual_seed(1)
    lm = LMModel(
        provider or DelayedPatternProvider(CODEBOOKS),
        GivenConditions(),  # type: ignore
        ConditionFuser(fuse2cond),
        **{
            "n_q": CODEBOOKS,
            "card": CARD,
            "dim": DIM,
            "num_heads": 2,
            "num_layers": 2,
            "norm_first": True,
            "dropout": 0.0,
            "memory_efficient": True,
            "cross_attention": "cross" in fuse2cond,
        }
        | options,
    )
    for linear in lm.linears:
        nn.init.normal_(linear.weight)
    return lm.eval()


def condition(batch_size: int, num_steps: int, seed: int = 0) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    embed = torch.randn(batch_size, num_steps, DIM, generator=rng)
    return Condition(embed, torch.ones(batch_size, num_steps, dtype=torch.bool))


def text_and_style(batch_size: int) -> dict[str, Condition]:
    """Conditions of text and style, text first as in the provider."""
    return {"description": condition(batch_size, 4, 1), "self_wav": condition(batch_size, 5, 2)}


def take(conditions: dict[str, Condition], item: int) -> dict[str, Condition]:
    """The conditions of one item."""
    one = slice(item, item + 1)
    return {name: Condition(c.embed[one], c.mask[one]) for name, c in conditions.items()}
