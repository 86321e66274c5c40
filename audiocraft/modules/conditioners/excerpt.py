"""Selection of the style excerpt: which part of a clip conditions the model.

Frames covered by the excerpt are excluded from the loss, since the model has seen them. One length
is drawn per training batch, so that excerpts can be stacked; every clip has its own start, such
that the excerpt lies in valid audio, not in padding.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563.
"""

import math
import typing as tp

import torch
from torch import Tensor

from ...utils.randomness import derive_generator
from .base import Rng, generator_for


def select_excerpt_start(
    duration: float, length: float, seed: int, start: float | None = None
) -> float:
    """Return where the style excerpt of a generated sample starts, in seconds.

    Python API, command line, page and training samples all use this function, so that a seed
    selects the same excerpt everywhere.

    Args:
        duration: Duration of the style clip, in seconds.
        length: Length of the excerpt, in seconds.
        seed: Seed of the sample; selects a whole millisecond.
        start: Requested start, in seconds; `None` selects one by the seed.

    Raises:
        ValueError: The excerpt does not lie inside the clip.
    """
    slack = duration - length
    if start is None:
        milliseconds = math.floor(slack * 1000)
        if milliseconds >= 0:
            generator = derive_generator(seed, "excerpt")
            return int(torch.randint(milliseconds + 1, (), generator=generator)) / 1000
    elif 0 <= start <= slack + 1e-3:
        return start
    if slack < 0:
        raise ValueError(
            f"A style excerpt of {length:g} s does not fit in a clip of {duration:.5g} s. Provide "
            "a longer clip or reduce `excerpt_length`."
        )
    raise ValueError(
        f"excerpt_start={start:g} does not fit: an excerpt of {length:g} s in a clip of "
        f"{duration:.5g} s can start between 0 and {slack:.5g} s."
    )


def draw_excerpt(
    num_samples: int, length: int, sample_rate: int, rng: torch.Generator | None = None
) -> slice:
    """Draw the position of an excerpt.

    Args:
        num_samples: Length of the waveform, in samples.
        length: Length of the excerpt, in samples.
        sample_rate: Sample rate, for the error message.
        rng: Draws the start; `None` takes the middle (evaluation).

    Returns:
        Slice of `length` samples of the waveform.

    Raises:
        ValueError: The waveform is shorter than the excerpt.
    """
    slack = num_samples - length
    if slack < 0:
        raise ValueError(
            f"A style excerpt of {length / sample_rate:g} s does not fit in a clip of "
            f"{num_samples / sample_rate:g} s. Provide longer audio or reduce `excerpt_length`."
        )
    start = slack // 2 if rng is None else int(torch.randint(slack + 1, (), generator=rng))
    return slice(start, start + length)


def place_excerpt(num_samples: int, length: int, sample_rate: int, start: int) -> slice:
    """Excerpt that starts at sample `start`; other arguments as for `draw_excerpt`.

    Raises:
        ValueError: The excerpt does not lie inside the waveform.
    """
    if not 0 <= start <= num_samples - length:
        raise ValueError(
            f"A style excerpt of {length / sample_rate:g} s that starts at "
            f"{start / sample_rate:g} s does not fit in a clip of {num_samples / sample_rate:g} s. "
            "Provide longer audio, or reduce `excerpt_start` or `excerpt_length`."
        )
    return slice(start, start + length)


def draw_excerpts(
    lengths: tp.Sequence[int],
    starts: tp.Sequence[int | None],
    length: int,
    sample_rate: int,
    rng: Rng = None,
) -> list[slice | None]:
    """Select an excerpt of each clip of a batch.

    Args:
        lengths: Valid samples of each clip; 0: null clip.
        starts: Requested first sample, or `None` for `draw_excerpt`.
        length: Length of every excerpt, in samples.
        sample_rate: Sample rate, for error messages.
        rng: Random generators; `None` takes the middle.

    Returns:
        One slice per clip, `None` for a null clip.

    Raises:
        ValueError: An excerpt does not lie inside its clip.
    """
    excerpts: list[slice | None] = []
    for i, (num_samples, start) in enumerate(zip(lengths, starts)):
        if num_samples == 0:
            excerpts.append(None)
        elif start is None:
            excerpts.append(draw_excerpt(num_samples, length, sample_rate, generator_for(rng, i)))
        else:
            excerpts.append(place_excerpt(num_samples, length, sample_rate, start))
    return excerpts


def draw_length(
    varying_lengths: tuple[float, float], longest: float, rng: torch.Generator
) -> float:
    """Draw the length of the excerpts of a training batch, uniformly.

    Args:
        varying_lengths: Shortest and longest excerpt, in seconds.
        longest: Duration of the shortest clip in the batch, in seconds; upper bound of the result.
        rng: Draws the length.

    Returns:
        Length in seconds.
    """
    high = min(varying_lengths[1], longest)
    low = min(varying_lengths[0], high)
    return low + (high - low) * float(torch.rand((), generator=rng, dtype=torch.float64))


def covered_frames(excerpts: tp.Sequence[slice | None], hop: int) -> Tensor:
    """Mask of the codec frames that the excerpts cover.

    As in released models, an excerpt covers `length // hop` frames from `start // hop` on, although
    it may extend into the next frame.

    Args:
        excerpts: Samples of the excerpt of each clip; `None` for a null clip.
        hop: Samples per codec frame.

    Returns:
        `[B, F]` bool, up to the last frame that any excerpt covers.
    """
    spans = [
        (e.start // hop, e.start // hop + (e.stop - e.start) // hop) if e else (0, 0)
        for e in excerpts
    ]
    frames = torch.arange(max(stop for _, stop in spans))
    starts, stops = torch.tensor(spans).unbind(1)
    return (frames >= starts[:, None]) & (frames < stops[:, None])
