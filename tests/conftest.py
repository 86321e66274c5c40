"""Marks of tests, and fixtures: small models with random weights."""

import copy
import multiprocessing.spawn
import os
import subprocess
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from audiocraft.environment import config_dir
from audiocraft.models import MusicGen, builders

from .fork_server import forked_python

INTEGRATION = Path(__file__).parent / "integration"
# A test without one of these marks is part of `make check`: it starts no Python process.
LAYERS = ("integration", "slow", "nightly")


def composed(*overrides: str):
    """The configuration of a command line."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(config, items):
    """Mark what is below tests/integration; run `nightly` only with `-m nightly`."""
    for item in items:
        if INTEGRATION in item.path.parents:
            item.add_marker("integration")
        if item.get_closest_marker("nightly") and "nightly" not in config.getoption("-m"):
            item.add_marker(pytest.mark.skip(reason="make nightly"))


@pytest.fixture(autouse=True)
def no_python_process(request, monkeypatch):
    """Fail a fast test that starts a Python process: it needs a mark."""
    if any(request.node.get_closest_marker(mark) for mark in LAYERS):
        if request.node.get_closest_marker("integration"):  # data workers are forked, too
            monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(forked_python()))
        return
    real = subprocess.Popen.__init__

    def checked(self, args, *more, **options):
        program = args if isinstance(args, str | os.PathLike) else next(iter(args))
        if Path(os.fspath(program)).name.startswith("python"):
            pytest.fail("This test starts a Python process: mark it `integration` or `slow`.")
        real(self, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", checked)


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
        # otherwise all embeddings have the same codes
        style.rvq.initialize(torch.randn(1, style.dim, 2000))
    return tokenizer, lm


@pytest.fixture
def tiny_musicgen(tiny_parts) -> MusicGen:
    """A model of 2-second windows at 32 kHz, 50 frames per second."""
    tokenizer, lm = copy.deepcopy(tiny_parts)
    model = MusicGen("tiny", tokenizer, lm, max_duration=2.0)
    model.set_generation_params(duration=0.4)
    model.set_style_conditioner_params(excerpt_length=1.5)
    return model
