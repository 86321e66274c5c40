"""Small pieces of sound, written for one test."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.data.manifest import AudioMeta

RATE = 8000


def tone(seconds: float, frequency: float = 440.0, rate: int = RATE, channels: int = 1):
    """A sine as an array `[T, C]`, another octave in every channel."""
    time = np.arange(round(seconds * rate)) / rate
    octaves = [0.4 * np.sin(2 * np.pi * frequency * 2**c * time) for c in range(channels)]
    return np.stack(octaves, axis=1).astype(np.float32)


def write_tone(path: Path, seconds: float = 2.0, rate: int = RATE, channels: int = 1, **kwargs):
    """Write a sine in the format of the suffix; return its manifest entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate=rate, channels=channels), rate, **kwargs)
    return AudioMeta(str(path), seconds, rate)


def write_track(path: Path, seconds: float = 2.0, **fields):
    """A sine with its JSON file."""
    meta = write_tone(path, seconds)
    path.with_suffix(".json").write_text(json.dumps({"description": path.stem} | fields))
    return meta


@pytest.fixture
def tones(tmp_path) -> list[AudioMeta]:
    """Four files of different lengths."""
    return [write_tone(tmp_path / f"{i}.wav", seconds) for i, seconds in enumerate((1, 2, 4, 8))]


@pytest.fixture
def tracks(tmp_path) -> list[AudioMeta]:
    """Four files with metadata."""
    return [write_track(tmp_path / f"{i}.wav", 2.0, genre="rock") for i in range(4)]
