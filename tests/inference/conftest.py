"""A small model, and clips that sound like something."""

import math

import pytest
import torch

from audiocraft.data.audio import audio_write
from audiocraft.inference.generator import Maker


@pytest.fixture
def maker(tiny_musicgen) -> Maker:
    return Maker(tiny_musicgen)


@pytest.fixture
def clip(tmp_path):
    """Three seconds of a glissando, stereo, 44.1 kHz."""
    time = torch.arange(3 * 44100) / 44100
    wav = 0.3 * torch.sin(2 * math.pi * (220 + 60 * time) * time)
    return str(audio_write(tmp_path / "clip", wav.expand(2, -1), 44100))
