"""Fixtures: short audio files with and without metadata."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocraft.data.manifest import AudioMeta

RATE = 8000


def tone(seconds: float, frequency: float = 440.0, rate: int = RATE, channels: int = 1):
    """Sine wave, `[T, C]`; each channel is one octave above the previous one."""
    time = np.arange(round(seconds * rate)) / rate
    octaves = [0.4 * np.sin(2 * np.pi * frequency * 2**c * time) for c in range(channels)]
    return np.stack(octaves, axis=1).astype(np.float32)


def write_tone(path: Path, seconds: float = 2.0, rate: int = RATE, channels: int = 1, **kwargs):
    """Write a sine wave in the format of the suffix; returns its manifest entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, rate=rate, channels=channels), rate, **kwargs)
    return AudioMeta(str(path), seconds, rate)


def write_track(path: Path, seconds: float = 2.0, **fields):
    """Write a sine wave with its JSON metadata file."""
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
