"""Rendering of scores with fluidsynth and the sound font FluidR3 GM (MIT licence)."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from .composer import Score
from .composer.score import to_midi

SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
LOUDNESS_DB = -18.0  # LUFS of every clip
KNEE, PEAK = 0.4, 0.7  # peaks are compressed above KNEE; lossy encoders overshoot PEAK by 3 dB
PREROLL = 0.03  # seconds kept before the first beat: attacks may be slightly early


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Audio format of a clip."""

    extension: str = "ogg"  # wav | flac | ogg | mp3
    sample_rate: int = 32000  # hertz
    channels: int = 1
    compression: float = 0.5  # of ogg and mp3: 0 is the best quality, 0.99 the smallest file


class RenderError(RuntimeError):
    """The synthesizer is missing or failed."""


def sound_font() -> Path:
    """Return the sound font: `AUDIOCRAFT_SOUND_FONT`, or the path of FluidR3 on Debian.

    Raises:
        RenderError: fluidsynth or the sound font is not installed.
    """
    path = Path(os.environ.get("AUDIOCRAFT_SOUND_FONT", SOUND_FONT))
    if shutil.which("fluidsynth") is None or not path.is_file():
        raise RenderError(
            f"Rendering needs the program fluidsynth and the sound font {path}. "
            "Install both: apt-get install fluidsynth fluid-soundfont-gm"
        )
    return path


def render(score: Score, sample_rate: int) -> np.ndarray:
    """Render a whole piece.

    Returns:
        Float samples [T, 2], neither normalised nor cut.

    Raises:
        RenderError: fluidsynth is missing or failed.
    """
    font = sound_font()
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "piece.mid"), Path(folder, "piece.wav")
        to_midi(score).save(midi)
        command = ["fluidsynth", "-ni", "-q", "-r", str(sample_rate), "-g", "0.4", "-C", "0"]
        command += ["-R", "1", "-O", "float", "-T", "wav", "-F", str(wav), str(font), str(midi)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0 or not wav.is_file():
            raise RenderError(f"fluidsynth failed on {score.title!r}: {result.stderr.strip()}")
        samples, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    return samples


def cut(samples: np.ndarray, sample_rate: int, start: float, seconds: float) -> np.ndarray:
    """Return a clip of a piece, with faded edges.

    Args:
        samples: The piece, [T, C].
        sample_rate: Sample rate, in hertz.
        start: Start, in seconds; the clip begins a few milliseconds earlier.
        seconds: Length of the clip.
    """
    first = max(0, round((start - PREROLL) * sample_rate))
    clip = samples[first : first + round(seconds * sample_rate)].copy()
    edge = round(0.008 * sample_rate)
    ramp = np.linspace(0, 1, edge, dtype=np.float32)[:, None]
    clip[:edge] *= ramp
    clip[-edge:] *= ramp[::-1]
    return clip


def level(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Normalize a clip [T, C] to LOUDNESS_DB; samples above KNEE are compressed below PEAK."""
    wav = torch.from_numpy(np.ascontiguousarray(samples.T))
    loudness = float(torchaudio.functional.loudness(wav, sample_rate))
    louder = samples * 10 ** ((LOUDNESS_DB - loudness) / 20)
    above = np.maximum(np.abs(louder) - KNEE, 0)
    compressed = KNEE + (PEAK - KNEE) * np.tanh(above / (PEAK - KNEE))
    return np.where(above > 0, np.sign(louder) * compressed, louder).astype(np.float32)


def write(path: Path, samples: np.ndarray, encoding: Encoding) -> None:
    """Encode a clip [T, C] in the format of its file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossy = encoding.extension in ("ogg", "mp3")
    with soundfile.SoundFile(
        path,
        "w",
        encoding.sample_rate,
        samples.shape[1],
        bitrate_mode="CONSTANT" if encoding.extension == "mp3" else None,
        compression_level=encoding.compression if lossy else None,
    ) as file:
        for start in range(0, len(samples), encoding.sample_rate):
            # libsndfile crashes on ogg blocks much longer than a second
            file.write(samples[start : start + encoding.sample_rate])
