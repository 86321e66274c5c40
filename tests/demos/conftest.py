"""Fixtures: style clips and a generation service with random weights."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.inference.sample_generator import SampleGenerator
from demos.sessions import FormValues, GenerationService, SessionStore

RATE = 16000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """Tone of rising amplitude, `[T]`."""
    times = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * 220 * times) * np.linspace(0.2, 1, len(times))


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype)
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    """Three seconds of music."""
    return write(tmp_path / "clip.wav", tone(3))


@pytest.fixture
def service(tiny_musicgen) -> GenerationService:
    quantizer = tiny_musicgen.compression_model.quantizer
    rng = torch.Generator().manual_seed(0)
    quantizer.initialize(
        torch.randn(1, 32, 2000, generator=rng)
    )  # otherwise all codes decode to the same audio
    return GenerationService(SampleGenerator(tiny_musicgen))


@pytest.fixture
def sessions(tmp_path) -> SessionStore:
    folder = tmp_path / "sessions"
    folder.mkdir()
    return SessionStore(folder)


def form(**changes) -> FormValues:
    """Default values of the form, with changes."""
    usual = {
        "text": "slow jazz",
        "clip": None,
        "start": None,
        "count": 1,
        "seed": 3,
        "duration": 0.4,
        "excerpt_length": 1.5,
        "style_detail": 3,
        "guidance": 3.0,
        "text_weight": 5.0,
    }
    return FormValues(**usual | changes)
