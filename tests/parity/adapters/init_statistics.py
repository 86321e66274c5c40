"""Replays the statistics of the initial weights of the language model."""

import re

import torch

from audiocraft.models.lm import LMModel
from audiocraft.modules.codebooks_patterns import ParallelPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditionProvider

from ..harness import adapter

SIZES = {
    "dim": r"dim (\d+)",
    "num_heads": r"(\d+) heads",
    "num_layers": r"(\d+) layers",
    "card": r"card (\d+)",
}
OPTIONS = {"norm_first": True, "memory_efficient": True, "cross_attention": True}


def parse(key):
    """Parse `weight_init=gaussian depthwise_init=None zero_bias_init=True` to arguments."""
    words = {"None": None, "True": True, "False": False}
    pairs = (pair.split("=") for pair in key.split())
    return {name: words.get(value, value) for name, value in pairs}


def sizes_of(case):
    """Return the sizes of the model from the note and the names of the recorded weights."""
    note = case.meta["note"]
    sizes = {name: int(re.search(pattern, note).group(1)) for name, pattern in SIZES.items()}
    names = {name for recorded in case.meta["configs"].values() for name in recorded}
    return sizes | {"n_q": 1 + max(int(n.split(".")[1]) for n in names if n.startswith("emb."))}


@adapter("init_statistics")
def check(case, call):
    sizes = sizes_of(case)
    for key, recorded in case.meta["configs"].items():
        torch.manual_seed(0)
        lm = LMModel(
            ParallelPatternProvider(sizes["n_q"]),
            ConditionProvider({}),
            ConditionFuser({"cross": ["description"]}),
            **sizes,
            **OPTIONS,
            **parse(key),
        )
        state = lm.state_dict()
        for name, (std, largest) in recorded.items():
            # The deviation of small tensors and the maximum of long tails have a larger variance.
            tolerance = 0.01 + 2 / state[name].numel() ** 0.5
            measured = state[name].std().item()
            assert abs(measured - std) <= tolerance * std, f"{key}: {name} spreads {measured}"
            measured = state[name].abs().max().item()
            assert abs(measured - largest) <= 0.1 * largest, f"{key}: {name} reaches {measured}"
