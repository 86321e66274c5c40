"""Small models of the real architecture, with random weights."""

import copy

import pytest
import torch
from hydra import compose, initialize_config_dir

from audiocraft.environment import config_dir
from audiocraft.models import MusicGen, builders


def composed(*overrides: str):
    """The configuration that a command line gives."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", list(overrides))


def pytest_collection_modifyitems(config, items):
    """What is marked `nightly` runs only where it is asked for: `-m nightly`."""
    if "nightly" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="make nightly"))


@pytest.fixture(scope="session")
def tiny_config():
    """Text and style conditioned, one layer, the codebooks of the debug tokenizer."""
    return composed(
        "solver=musicgen/musicgen_style_tiny",
        "sample_rate=32000",
        "transformer_lm={dim: 32, num_heads: 2, num_layers: 1, card: 400}",
        "conditioners.self_wav.style.ds_rate_compression=640",
    )


@pytest.fixture(scope="session")
def tiny_parts(tiny_config):
    """The tokenizer and the language model of `tiny_musicgen`, which takes copies."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = builders.get_debug_compression_model(sample_rate=32000)
        lm = builders.get_lm_model(tiny_config)
        style = lm.condition_provider.conditioners["self_wav"]
        style.rvq.initialize(torch.randn(1, style.dim, 2000))  # an untrained bottleneck is deaf
    return tokenizer, lm


@pytest.fixture
def tiny_musicgen(tiny_parts) -> MusicGen:
    """A model of 2-second windows at 32 kHz, 50 frames per second."""
    tokenizer, lm = copy.deepcopy(tiny_parts)
    model = MusicGen("tiny", tokenizer, lm, max_duration=2.0)
    model.set_generation_params(duration=0.4)
    model.set_style_conditioner_params(excerpt_length=1.5)
    return model
