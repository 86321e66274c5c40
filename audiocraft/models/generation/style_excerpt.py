"""Style excerpt of a generated sample: the part of a clip around it, at the model's sample rate.

A clip may be hours long. Only the excerpt and a margin for the resampling filter are read and
converted, in the same way for files and tensors: both give the same samples.
"""

import math
import typing as tp

import torch
from torch import Tensor

from ...data.audio_utils import convert_audio
from ...modules.conditioners import select_excerpt_start

MARGIN = 0.25  # seconds on both sides of the excerpt, more than half a resampling filter


class StyleExcerpt(tp.NamedTuple):
    """A part of a clip that contains the excerpt."""

    wav: Tensor  # [C, T] at the model's sample rate
    start: float  # position of the excerpt in `wav`, in seconds


def margin_range(start: float, length: float) -> tuple[float, float]:
    """Return the part of a clip to read for an excerpt.

    Args:
        start: Start of the excerpt in the clip, in seconds.
        length: Length of the excerpt, in seconds.

    Returns:
        Start and length of the part, in seconds. At the end of the clip it may be shorter.
    """
    begin = max(0.0, start - MARGIN)
    return begin, start - begin + length + MARGIN


def convert_excerpt(
    wav: Tensor, clip_rate: int, offset: float, length: float, sample_rate: int, channels: int
) -> StyleExcerpt:
    """Convert the part of a clip that `margin_range` names.

    Args:
        wav: The part, `[C, T]` at `clip_rate`.
        clip_rate: Sample rate of the clip, in Hz.
        offset: Start of the excerpt in `wav`, in seconds.
        length: Length of the excerpt, in seconds.
        sample_rate: Sample rate of the model, in Hz.
        channels: Channels of the model.
    """
    wav = convert_audio(wav, clip_rate, sample_rate, channels)
    first = round(offset * sample_rate)
    missing = max(0, first + int(length * sample_rate) - wav.shape[-1])  # rounded by resampling
    return StyleExcerpt(wav, max(0, first - missing) / sample_rate)


def extract_excerpt(
    clip: Tensor,
    clip_rate: int,
    length: float,
    start: float | None,
    generator: torch.Generator,
    sample_rate: int,
    channels: int,
) -> StyleExcerpt:
    """Select the excerpt of a clip and convert the part around it.

    Args:
        clip: `[C, T]` at `clip_rate`.
        clip_rate: Sample rate of the clip, in Hz.
        length: Length of the excerpt, in seconds.
        start: Start of the excerpt, in seconds; `None` selects one by the generator's seed.
        generator: Generator of the sample, see `excerpt_seed`.
        sample_rate: Sample rate of the model, in Hz.
        channels: Channels of the model.

    Raises:
        ValueError: The excerpt does not lie inside the clip.
    """
    seed = excerpt_seed(generator) if start is None else 0
    start = select_excerpt_start(clip.shape[-1] / clip_rate, length, seed, start)
    begin, duration = margin_range(start, length)
    first, num_samples = (math.floor(s * clip_rate + 1e-6) for s in (begin, duration))
    part = clip[:, first : first + num_samples].float()
    return convert_excerpt(part, clip_rate, start - begin, length, sample_rate, channels)


def excerpt_seed(generator: torch.Generator) -> int:
    """Return the seed that selects the excerpt of a sample.

    An unused generator stands for its seed. From a used one a seed is drawn, so that each call
    with the same generator uses another excerpt.
    """
    unused = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    if torch.equal(unused.get_state(), generator.get_state()):
        return generator.initial_seed()
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
