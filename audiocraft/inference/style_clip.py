"""The excerpt of a clip that is heard, read from its file and nothing else of it.

A clip may last three hours; a few seconds of it are read.
"""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.audio import audio_info, audio_read
from ..data.audio_utils import ENERGY_FLOOR, convert_audio
from ..errors import AudioError
from ..utils.randomness import derive_generator

MARGIN = 0.25  # seconds read around the excerpt, where the resampler's filter reaches


class StyleClip(NamedTuple):
    """Some seconds of a file, with the excerpt in them."""

    wav: Tensor  # [C, T] at the model's rate
    start: float  # second of `wav` at which the excerpt starts


def excerpt_start(path: str, length: float, start: float | None, seed: int) -> float:
    """The second of a file at which the excerpt starts.

    Args:
        path: The file.
        length: Seconds of the excerpt.
        start: What was asked for; `None` draws it from the seed.
        seed: Of the piece.

    Raises:
        AudioError: The file cannot be read, or is too short.
    """
    duration = audio_info(path).duration
    if start is None:
        spare = math.floor((duration - length) * 1000)  # milliseconds
        if spare < 0:
            raise AudioError(
                f"{path} lasts {duration:.2f} s, but {length:g} s of it are to be heard. Give a "
                "longer clip, or a shorter excerpt."
            )
        rng = derive_generator(seed, "excerpt")
        return int(torch.randint(spare + 1, (), generator=rng)) / 1000
    if start < 0 or start + length > duration + 1e-3:
        raise AudioError(
            f"{path} lasts {duration:.2f} s: an excerpt of {length:g} s can start between 0 and "
            f"{max(0.0, duration - length):.2f} s, not at {start:g} s."
        )
    return start


def load_excerpt(
    path: str, length: float, start: float, sample_rate: int, channels: int
) -> StyleClip:
    """Read the excerpt.

    Args:
        path: The file.
        length: Seconds of the excerpt.
        start: Second of the file at which it starts.
        sample_rate: Of the model, in Hz.
        channels: Of the model.

    Raises:
        AudioError: The file is damaged, or silent there.
    """
    begin = max(0.0, start - MARGIN)
    wav, rate = audio_read(path, begin, start - begin + length + MARGIN)
    wav = convert_audio(wav, rate, sample_rate, channels)
    first = round((start - begin) * sample_rate)
    wanted = int(length * sample_rate)
    heard = wav[:, first : first + wanted]
    if heard.shape[-1] < wanted - sample_rate // 100:
        raise AudioError(f"{path} ends before second {start + length:.2f}: it is damaged.")
    if not heard.isfinite().all():
        raise AudioError(f"{path} holds samples that are no numbers: it is damaged.")
    if heard.square().mean().sqrt() < ENERGY_FLOOR / 10:
        raise AudioError(
            f"{path} is silent from {start:.2f} to {start + length:.2f} s: there is no style to "
            "hear. Choose another place with excerpt_start, or another clip."
        )
    rounded_away = max(0, first + wanted - wav.shape[-1])  # by the resampler
    return StyleClip(wav, max(0, first - rounded_away) / sample_rate)


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
