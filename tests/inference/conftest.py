"""A tiny model and a style clip."""

import math

import pytest
import torch

from audiocraft.data.audio import audio_write
from audiocraft.inference.sample_generator import SampleGenerator


@pytest.fixture
def sample_generator(tiny_musicgen) -> SampleGenerator:
    return SampleGenerator(tiny_musicgen)


@pytest.fixture
def clip(tmp_path):
    """Three seconds of a glissando, stereo, 44.1 kHz."""
    time = torch.arange(3 * 44100) / 44100
    wav = 0.3 * torch.sin(2 * math.pi * (220 + 60 * time) * time)
    return str(audio_write(tmp_path / "clip", wav.expand(2, -1), 44100))
