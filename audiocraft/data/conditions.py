"""Conditions of a sample: texts and waveform clips, before any conditioner encodes them.

A missing condition is `None` for a text and a clip of length zero for a waveform. Conditioners
encode either as zero vectors.
"""

import typing as tp
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


class WavCondition(tp.NamedTuple):
    """One clip or a batch of clips.

    `length` is the number of valid samples of each clip; padding follows. A clip of length zero is
    a null condition. `start` is the start of the style excerpt in the clip, in seconds; if `None`
    the conditioner draws it.
    """

    wav: Tensor  # [B, C, T]
    length: Tensor  # [B] long
    sample_rate: list[int]
    path: list[str | None] = [None]
    seek_time: list[float | None] = [None]
    start: list[float | None] = [None]


@dataclass
class ConditioningAttributes:
    """Conditions of one sample, by name."""

    text: dict[str, str | None] = field(default_factory=dict)
    wav: dict[str, WavCondition] = field(default_factory=dict)


def wav_condition(
    wav: Tensor,
    sample_rate: int,
    *,
    length: int | None = None,
    path: str | None = None,
    seek_time: float | None = None,
    start: float | None = None,
) -> WavCondition:
    """Create a batch of one clip.

    Args:
        wav: Waveform, `[C, T]`.
        sample_rate: Samples per second of `wav`.
        length: Valid samples of `wav`; `None`: all.
        path: Source file, for logs.
        seek_time: Start of the clip in its file, in seconds.
        start: Start of the style excerpt in the clip, in seconds; `None`: drawn.
    """
    num_samples = wav.shape[-1] if length is None else length
    return WavCondition(
        wav[None], torch.tensor([num_samples]), [sample_rate], [path], [seek_time], [start]
    )


def null_wav(sample_rate: int) -> WavCondition:
    """A null condition: `[1, 1, 1]` of zeros with length zero."""
    return WavCondition(torch.zeros(1, 1, 1), torch.tensor([0]), [sample_rate])


def select_clips(clips: WavCondition, start: int, stop: int) -> WavCondition:
    """Clips `start` to `stop` of a batch; tensors are views."""
    return WavCondition(
        wav=clips.wav[start:stop],
        length=clips.length[start:stop],
        sample_rate=clips.sample_rate[start:stop],
        path=clips.path[start:stop],
        seek_time=clips.seek_time[start:stop],
        start=clips.start[start:stop],
    )


def drop_conditions(
    attributes: ConditioningAttributes,
    *,
    text: tp.Collection[str] = (),
    wav: tp.Collection[str] = (),
) -> ConditioningAttributes:
    """Copy of `attributes` with the named conditions set to null. Unknown names are ignored."""
    return ConditioningAttributes(
        text={name: None if name in text else value for name, value in attributes.text.items()},
        wav={
            name: null_wav(value.sample_rate[0]) if name in wav else value
            for name, value in attributes.wav.items()
        },
    )


def collate_texts(samples: list[ConditioningAttributes], name: str) -> list[str | None]:
    """The text condition `name` of every sample; `None` where it is missing."""
    return [sample.text.get(name) for sample in samples]


def collate_wavs(samples: list[ConditioningAttributes], name: str) -> WavCondition:
    """Stack the clips `name` of every sample as mono, padded with zeros to the longest.

    Returns:
        A batch, `wav` of shape `[B, 1, T]`. A missing clip is a null clip.
    """
    rate = next((s.wav[name].sample_rate[0] for s in samples if name in s.wav), 0)
    clips = [sample.wav.get(name) or null_wav(rate) for sample in samples]
    longest = max(clip.wav.shape[-1] for clip in clips)
    mono = [clip.wav.mean(dim=1, keepdim=True) for clip in clips]
    return WavCondition(
        wav=torch.cat([F.pad(wav, (0, longest - wav.shape[-1])) for wav in mono]),
        length=torch.cat([clip.length for clip in clips]),
        sample_rate=[clip.sample_rate[0] for clip in clips],
        path=[clip.path[0] for clip in clips],
        seek_time=[clip.seek_time[0] for clip in clips],
        start=[clip.start[0] for clip in clips],
    )
