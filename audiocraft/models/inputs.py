"""What callers of `MusicGen` give, checked once: parameters, seeds, clips.

Every mistake is a `ValueError` that names the value and the remedy.
"""

import typing as tp
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..modules.sampling import Sampling
from .guidance import Guidance

Seed = int | tp.Sequence[int] | None


@dataclass(frozen=True, kw_only=True)
class GenerationParams:
    """How a model generates. Durations and strides are in seconds."""

    duration: float = 30.0
    extend_stride: float = 18.0  # what each window adds beyond the model's longest duration
    sampling: Sampling = field(default_factory=lambda: Sampling(top_k=250))
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self):
        if not self.duration > 0:
            raise ValueError(f"duration must be more than 0 seconds but is {self.duration}.")
        if not self.extend_stride > 0:
            raise ValueError(f"extend_stride must be more than 0 but is {self.extend_stride}.")


def generators_for(seed: Seed, num_samples: int) -> list[torch.Generator]:
    """One generator per sample, so that a sample does not depend on its neighbours."""
    if seed is None:
        seeds: tp.Sequence[int] = torch.randint(2**62, (num_samples,)).tolist()
    elif isinstance(seed, int):
        seeds = range(seed, seed + num_samples)
    else:
        seeds = seed
    if len(seeds) != num_samples:
        raise ValueError(f"{len(seeds)} seeds were given for {num_samples} samples.")
    return [torch.Generator().manual_seed(int(value)) for value in seeds]


def as_clips(wavs: Tensor | tp.Sequence[Tensor | None], name: str) -> list[Tensor | None]:
    """Clips `[C, T]` of any lengths, checked."""
    if isinstance(wavs, Tensor):
        if wavs.dim() not in (2, 3):
            raise ValueError(f"{name} must be [B, C, T] or [C, T] but is {list(wavs.shape)}.")
        wavs = list(wavs[None] if wavs.dim() == 2 else wavs)
    for clip in wavs:
        if clip is None:
            continue
        if clip.dim() != 2 or clip.shape[-1] == 0:
            raise ValueError(f"A clip in {name} must be [C, T] but is {list(clip.shape)}.")
        if clip.shape[0] > 2:
            raise ValueError(
                f"A clip in {name} has {clip.shape[0]} channels. Give mono or stereo, [C, T]: "
                "mix it down, or transpose it if time comes first."
            )
        if not torch.isfinite(clip).all():
            raise ValueError(f"A clip in {name} holds NaN or infinite samples.")
    return list(wavs)


def broadcast(texts: tp.Sequence, clips: list) -> tuple[list, list]:
    """One text goes with all clips, one clip with all texts."""
    if len(texts) != len(clips) and 1 not in (len(texts), len(clips)):
        raise ValueError(
            f"{len(texts)} descriptions do not go with {len(clips)} clips: "
            "give as many, or a single one of either."
        )
    count = max(len(texts), len(clips))
    return list(texts) * (count // len(texts)), list(clips) * (count // len(clips))
