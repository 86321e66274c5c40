"""What callers of `MusicGen` give, checked once: parameters, seeds, texts, clips.

Every mistake is a `ValueError` that names the value and the remedy.
"""

import typing as tp
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...data.conditions import ConditioningAttributes
from ...modules.sampling import Sampling
from ...utils.numbers import is_integer, is_number
from .guidance import Guidance

Seed = int | tp.Sequence[int] | None
Generators = tp.Sequence[torch.Generator] | None
Clips = Tensor | tp.Sequence[Tensor | None]


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """How a model generates. Durations and strides are in seconds."""

    duration: float = 30.0
    extend_stride: float = 18.0  # what each window adds beyond the model's longest duration
    sampling: Sampling = field(default_factory=lambda: Sampling(top_k=250))
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self):
        for name in ("duration", "extend_stride"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise ValueError(f"{name} must be more than 0 seconds but is {value!r}.")

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
        """Those of a model whose windows last `max_duration` seconds.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        stride = 0.6 * max_duration if extend_stride is None else extend_stride
        chosen = GenerationParams(
            duration=duration,
            extend_stride=stride,
            sampling=sampling if use_sampling else Sampling(temperature=0.0, top_k=0),
            guidance=guidance,
        )
        if stride >= max_duration:
            raise ValueError(
                f"extend_stride is {stride} s but a window lasts {max_duration} s: "
                "give less, so that windows overlap."
            )
        return chosen


def make_generators(
    seed: Seed, generators: Generators, num_samples: int
) -> tp.Sequence[torch.Generator]:
    """One generator per sample, so that a sample does not depend on its neighbours.

    Args:
        seed: Of the first sample, the others counting up from it; or one per sample; `None` takes
            other music each time.
        generators: The dice themselves, one per sample, instead of seeds.
        num_samples: How many are needed.

    Raises:
        ValueError: There are more or fewer than samples, or a seed is no whole number of 64 bits.
    """
    if generators is not None:
        _check_generators(seed, generators, num_samples)
        return generators
    if seed is None:
        seeds: tp.Sequence[int] = torch.randint(2**62, (num_samples,)).tolist()
    elif is_integer(seed):
        seeds = range(seed, seed + num_samples)
    else:
        seeds = list(seed) if isinstance(seed, tp.Iterable) else [seed] * num_samples
    if len(seeds) != num_samples:
        raise ValueError(f"{len(seeds)} seeds were given for {num_samples} samples.")
    for value in seeds:
        if not is_integer(value) or not -(2**63) <= value < 2**63:
            raise ValueError(f"A seed must be a whole number of 64 bits but is {value!r}.")
    return [torch.Generator().manual_seed(int(value)) for value in seeds]


def _check_generators(
    seed: Seed, generators: tp.Sequence[torch.Generator], num_samples: int
) -> None:
    if seed is not None:
        raise ValueError(f"seed={seed} and generators were both given. Give one of them.")
    if isinstance(generators, torch.Generator) or len(generators) != num_samples:
        count = 1 if isinstance(generators, torch.Generator) else len(generators)
        raise ValueError(
            f"{count} generators were given for {num_samples} samples. Give a list of one each."
        )
    if len({id(generator) for generator in generators}) != num_samples:
        raise ValueError("Two samples share a generator, and would depend on each other.")


def check_descriptions(descriptions: tp.Sequence[str | None] | None) -> list[str | None]:
    """Texts, checked; `None` is no description.

    Raises:
        ValueError: It is no list of texts, or an empty one.
    """
    if descriptions is None or isinstance(descriptions, str):
        raise ValueError(
            f"descriptions must be a list but is {descriptions!r}: put the sentence, or None, in "
            "brackets."
        )
    for text in descriptions:
        if text is not None and not isinstance(text, str):
            raise ValueError(f"A description must be a text or None but is {text!r}.")
    if len(descriptions) == 0:
        raise ValueError("descriptions is empty: give one text (or None) per sample.")
    return list(descriptions)


def check_clips(wavs: Clips, name: str) -> list[Tensor | None]:
    """Clips `[C, T]` of any lengths, checked; `None` is no clip.

    Raises:
        ValueError: A clip is no audio, or there is none.
    """
    if isinstance(wavs, Tensor):
        if wavs.dim() not in (2, 3):
            raise ValueError(f"{name} must be [B, C, T] or [C, T] but is {list(wavs.shape)}.")
        wavs = list(wavs[None] if wavs.dim() == 2 else wavs)
    if len(wavs) == 0:
        raise ValueError(f"{name} is empty: give at least one clip [C, T], or None.")
    for clip in wavs:
        if clip is not None:
            check_clip(clip, name)
    return list(wavs)


def check_clip(clip: Tensor, name: str) -> None:
    """See that a clip is audio: `[C, T]`, mono or stereo, finite floats.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(clip, Tensor):
        raise ValueError(
            f"A clip in {name} is a {type(clip).__name__}. Give a tensor [C, T], such as the "
            "first value of audio_read, or None."
        )
    if clip.dim() != 2 or clip.shape[-1] == 0:
        raise ValueError(f"A clip in {name} must be [C, T] but is {list(clip.shape)}.")
    if not 1 <= clip.shape[0] <= 2:
        raise ValueError(
            f"A clip in {name} has {clip.shape[0]} channels. Give mono or stereo, [C, T]: "
            "mix it down, or transpose it if time comes first."
        )
    if not clip.is_floating_point():
        raise ValueError(
            f"A clip in {name} holds {clip.dtype} samples. Give floats between -1 and 1: "
            "audiocraft.data.audio_utils.f32_pcm converts."
        )
    if not torch.isfinite(clip).all():
        raise ValueError(f"A clip in {name} holds NaN or infinite samples.")


def check_sample_rate(sample_rate: int, name: str) -> None:
    """See that a sample rate is one.

    Raises:
        ValueError: It is no positive whole number.
    """
    if not is_integer(sample_rate) or sample_rate < 1:
        raise ValueError(
            f"{name} must be a whole number of samples per second but is {sample_rate!r}."
        )


def broadcast(texts: tp.Sequence, clips: list) -> tuple[list, list]:
    """One text goes with all clips, one clip with all texts.

    Raises:
        ValueError: The numbers differ, and neither is one.
    """
    if len(texts) != len(clips) and 1 not in (len(texts), len(clips)):
        raise ValueError(
            f"{len(texts)} descriptions do not go with {len(clips)} clips: "
            "give as many, or a single one of either."
        )
    count = max(len(texts), len(clips))
    return list(texts) * (count // len(texts)), list(clips) * (count // len(clips))


def excerpt_starts(
    excerpt_start: float | tp.Sequence[float | None] | None, num_samples: int
) -> list[float | None]:
    """Where the excerpt of each sample starts, in seconds; `None` is to be drawn.

    Raises:
        ValueError: There are more or fewer than samples, or a start is no second of a clip.
    """
    if isinstance(excerpt_start, tp.Iterable) and not isinstance(excerpt_start, str):
        starts = list(excerpt_start)
    else:
        starts: list[tp.Any] = [excerpt_start] * num_samples
    if len(starts) != num_samples:
        raise ValueError(
            f"{len(starts)} values of excerpt_start were given for {num_samples} samples."
        )
    for start in starts:
        if start is not None and not (is_number(start) and start >= 0):
            raise ValueError(f"excerpt_start must be a second of the clip but is {start!r}.")
    return starts


def describe(texts: tp.Sequence[str | None]) -> list[ConditioningAttributes]:
    """What the model is told of each sample, the style still left out."""
    return [ConditioningAttributes(text={"description": text}) for text in texts]
