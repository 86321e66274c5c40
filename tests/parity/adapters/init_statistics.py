"""How widely the language model's weights are spread at the start."""

import torch

from audiocraft.models.lm import LMModel
from audiocraft.modules.codebooks_patterns import ParallelPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditionProvider

from ..harness import adapter

# What the note of the recorded case says about the model.
SIZE = {"n_q": 1, "card": 512, "dim": 256, "num_heads": 8, "num_layers": 4}
OPTIONS = {"norm_first": True, "memory_efficient": True, "cross_attention": True}


def parse(key):
    """`weight_init=gaussian depthwise_init=None zero_bias_init=True` as keyword arguments."""
    words = {"None": None, "True": True, "False": False}
    pairs = (pair.split("=") for pair in key.split())
    return {name: words.get(value, value) for name, value in pairs}


@adapter("init_statistics")
def check(case, call):
    for key, recorded in case.meta["configs"].items():
        torch.manual_seed(0)
        lm = LMModel(
            ConditionProvider({}),
            ConditionFuser({"cross": ["description"]}),
            ParallelPatternProvider(SIZE["n_q"]),
            **SIZE,
            **OPTIONS,
            **parse(key),
        )
        state = lm.state_dict()
        for name, (std, largest) in recorded.items():
            # Small tensors have a less certain spread, long tails a less certain end.
            tolerance = 0.01 + 2 / state[name].numel() ** 0.5
            measured = state[name].std().item()
            assert abs(measured - std) <= tolerance * std, f"{key}: {name} spreads {measured}"
            measured = state[name].abs().max().item()
            assert abs(measured - largest) <= 0.1 * largest, f"{key}: {name} reaches {measured}"
