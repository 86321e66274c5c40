"""Validation of what callers of `MusicGen` pass: parameters, seeds, texts, waveforms.

Every mistake is a `ValueError` that names the argument, its value and the way out.
"""

import numbers
import typing as tp
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...data.audio_utils import f32_pcm
from ...data.conditions import ConditioningAttributes
from ...modules.sampling import Sampling
from ...utils.numbers import is_integer, is_number
from ...utils.text import valid_unicode
from .guidance import Guidance

Seed = int | tp.Sequence[int] | Tensor | None
Generators = tp.Sequence[torch.Generator] | None
Texts = tp.Iterable[str | None]
Waveforms = Tensor | tp.Iterable[Tensor | None]
MAX_AMPLITUDE = 10.0  # of float samples; more can only be integers that were not scaled


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """Generation parameters. Durations and strides are in seconds."""

    duration: float = 30.0
    extend_stride: float = 18.0  # between the starts of two windows of long-form generation
    sampling: Sampling = field(default_factory=lambda: Sampling(top_k=250))
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self):
        for name in ("duration", "extend_stride"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise ValueError(f"{name}={value!r} must be more than 0 seconds.")

    @staticmethod
    def within(
        max_duration: float,
        *,
        duration: float,
        use_sampling: bool = True,
        extend_stride: float | None = None,
        sampling: Sampling,
        guidance: Guidance,
    ) -> "GenerationParams":
        """Return the parameters for a model with windows of `max_duration` seconds.

        Raises:
            ValueError: A value is out of range.
        """
        stride = 0.6 * max_duration if extend_stride is None else extend_stride
        params = GenerationParams(
            duration=duration,
            extend_stride=stride,
            sampling=sampling if use_sampling else Sampling(temperature=0.0, top_k=0),
            guidance=guidance,
        )
        if stride >= max_duration:
            raise ValueError(
                f"extend_stride={stride} s must be less than max_duration={max_duration} s, so "
                "that windows overlap."
            )
        return params


def make_generators(
    seed: Seed, generators: Generators, num_samples: int
) -> tp.Sequence[torch.Generator]:
    """Return one generator per sample, so that a sample does not depend on the rest of the batch.

    Args:
        seed: Seed of the first sample, incremented for each further one, or one seed per sample;
            `None` draws seeds.
        generators: One per sample, instead of seeds.
        num_samples: Number of samples.

    Raises:
        ValueError: The number of seeds or generators differs, or a seed is not a 64-bit integer.
    """
    if generators is not None:
        _check_generators(seed, generators, num_samples)
        return generators
    if isinstance(seed, Tensor | np.ndarray):
        seed = seed.tolist()
    if seed is None:
        seeds: tp.Sequence[tp.Any] = torch.randint(2**62, (num_samples,)).tolist()
    elif is_integer(seed):
        seeds = range(int(seed), int(seed) + num_samples)
    elif isinstance(seed, tp.Iterable) and not isinstance(seed, str):
        seeds = [value.item() if isinstance(value, Tensor) else value for value in seed]
    else:
        raise ValueError(f"seed={seed!r} must be an integer or a list of integers.")
    if len(seeds) != num_samples:
        raise ValueError(f"seed has {len(seeds)} values for {num_samples} samples.")
    for value in seeds:
        if not is_integer(value) or not -(2**63) <= value < 2**63:
            raise ValueError(f"seed={value!r} must be an integer of 64 bits.")
    return [torch.Generator().manual_seed(int(value)) for value in seeds]


def _check_generators(
    seed: Seed, generators: tp.Sequence[torch.Generator], num_samples: int
) -> None:
    if seed is not None:
        raise ValueError(f"seed={seed} and generators cannot be combined. Pass one of them.")
    if isinstance(generators, torch.Generator) or len(generators) != num_samples:
        count = 1 if isinstance(generators, torch.Generator) else len(generators)
        raise ValueError(
            f"generators has {count} generators for {num_samples} samples. Pass a list with one "
            "for each."
        )
    if len({id(generator) for generator in generators}) != num_samples:
        raise ValueError("generators has the same generator twice. Pass one for each sample.")


def check_descriptions(descriptions: Texts | None) -> list[str | None]:
    """Return the texts as a list; `None` is no description.

    Raises:
        ValueError: `descriptions` is not an iterable of texts, or is empty.
    """
    if descriptions is None or isinstance(descriptions, str | bytes):
        raise ValueError(
            f"descriptions={descriptions!r} must be a list of texts: [{descriptions!r}]."
        )
    if not isinstance(descriptions, tp.Iterable):
        raise ValueError(f"descriptions={descriptions!r} must be a list of texts.")
    texts = list(descriptions)
    for text in texts:
        if text is not None and not isinstance(text, str):
            raise ValueError(f"descriptions has {text!r}, which is neither a text nor None.")
    if not texts:
        raise ValueError("descriptions is empty. Pass one text (or None) per sample.")
    return [None if text is None else valid_unicode(str(text)) for text in texts]


def check_clips(wavs: Waveforms | None, name: str) -> list[Tensor | None]:
    """Return waveforms `[C, T]` of any lengths as floats; `None` is no clip.

    Args:
        wavs: `[B, C, T]`, `[C, T]`, or an iterable of `[C, T]` and `None`; `None` is `[None]`.
        name: Name of the argument, for errors.

    Raises:
        ValueError: A clip is not audio, or there is none.
    """
    if wavs is None:
        wavs = [None]
    if isinstance(wavs, np.ndarray):
        wavs = torch.from_numpy(wavs)
    if isinstance(wavs, Tensor):
        if wavs.dim() not in (2, 3):
            raise ValueError(f"{name} must be [B, C, T] or [C, T] but is {list(wavs.shape)}.")
        wavs = list(wavs[None] if wavs.dim() == 2 else wavs)
    if not isinstance(wavs, tp.Iterable):
        raise ValueError(f"{name} is a {type(wavs).__name__}. Pass a tensor [C, T] or a list.")
    clips = [None if clip is None else check_clip(clip, name) for clip in wavs]
    if not clips:
        raise ValueError(f"{name} is empty. Pass at least one clip [C, T], or None.")
    return clips


def check_clip(clip: Tensor | np.ndarray, name: str) -> Tensor:
    """Return a clip `[C, T]`, mono or stereo, as floats; integer samples are scaled.

    Raises:
        ValueError: It is not audio in the range -1 … 1.
    """
    if isinstance(clip, np.ndarray):
        clip = torch.from_numpy(clip)
    if not isinstance(clip, Tensor):
        raise ValueError(
            f"{name} has a {type(clip).__name__}. Pass a tensor [C, T], such as the first value "
            "of audio_read, or None."
        )
    if clip.dim() != 2 or clip.shape[-1] == 0:
        raise ValueError(f"A clip in {name} must be [C, T] but is {list(clip.shape)}.")
    if not 1 <= clip.shape[0] <= 2:
        raise ValueError(
            f"A clip in {name} has {clip.shape[0]} channels. Pass mono or stereo, [C, T]: mix it "
            "down, or transpose it if time comes first."
        )
    if not clip.is_floating_point():
        try:
            return f32_pcm(clip)
        except ValueError as error:
            raise ValueError(f"A clip in {name}: {error}") from error
    if not torch.isfinite(clip).all():
        raise ValueError(f"A clip in {name} has NaN or infinite samples.")
    if (peak := float(clip.abs().max())) > MAX_AMPLITUDE:
        raise ValueError(
            f"A clip in {name} has a peak of {peak:g} but samples must be in -1 … 1. Divide it by "
            "32768 if it was converted from 16-bit integers."
        )
    return clip


def as_sample_rate(sample_rate: float, name: str) -> int:
    """Return a sample rate as an integer, in Hz; `32000.0` is one.

    Raises:
        ValueError: It is not a positive whole number.
    """
    is_whole = isinstance(sample_rate, numbers.Real) and float(sample_rate).is_integer()
    if isinstance(sample_rate, bool) or not is_whole or sample_rate < 1:
        raise ValueError(f"{name}={sample_rate!r} must be a whole number of samples per second.")
    return int(sample_rate)


def broadcast(texts: tp.Sequence, clips: list) -> tuple[list, list]:
    """Repeat a single text for all clips, or a single clip for all texts.

    Raises:
        ValueError: The numbers differ and neither is one.
    """
    if len(texts) != len(clips) and 1 not in (len(texts), len(clips)):
        raise ValueError(
            f"{len(texts)} descriptions do not match {len(clips)} clips. Pass equally many, or a "
            "single one of either."
        )
    count = max(len(texts), len(clips))
    return list(texts) * (count // len(texts)), list(clips) * (count // len(clips))


def excerpt_starts(
    excerpt_start: float | tp.Sequence[float | None] | None, num_samples: int
) -> list[float | None]:
    """Return the start of each sample's style excerpt, in seconds; `None` is to be drawn.

    Raises:
        ValueError: The number of values differs, or a start is not a position in a clip.
    """
    if isinstance(excerpt_start, Tensor | np.ndarray):
        excerpt_start = excerpt_start.tolist()
    if isinstance(excerpt_start, tp.Iterable) and not isinstance(excerpt_start, str):
        starts: list[tp.Any] = list(excerpt_start)
    else:
        starts = [excerpt_start] * num_samples
    if len(starts) != num_samples:
        raise ValueError(f"excerpt_start has {len(starts)} values for {num_samples} samples.")
    for start in starts:
        if start is not None and not (is_number(start) and start >= 0):
            raise ValueError(f"excerpt_start={start!r} must be a position in seconds, from 0.")
    return starts


def text_attributes(texts: tp.Sequence[str | None]) -> list[ConditioningAttributes]:
    """Return condition attributes with a description each, without style clips."""
    return [ConditioningAttributes(text={"description": text}) for text in texts]
