"""Batches: output of a data set's collater and input of a solver step."""

import typing as tp
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from .conditions import ConditioningAttributes, WavCondition, select_clips
from .manifest import AudioMeta


@dataclass(frozen=True, kw_only=True)
class SegmentInfo:
    """Source file, position and valid length of a segment."""

    meta: AudioMeta | None = None
    seek_time: float = 0.0  # seconds into the file
    n_frames: int = 0  # valid samples; padding follows
    total_frames: int = 0  # samples
    sample_rate: int = 0  # Hz
    channels: int = 0

    def to_condition_attributes(self) -> ConditioningAttributes:
        """Values that a model can be conditioned on; none without metadata."""
        return ConditioningAttributes()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Segments of equal length with their metadata: either waveforms or codes.

    Clips for the style conditioner are kept as one tensor: it is shared between processes much
    faster than one tensor per sample, and for a data set of audio it is `wavs` itself.
    """

    wavs: Tensor | None = None  # [B, C, T]
    codes: Tensor | None = None  # [B, K, F] long, from a pre-encoded data set
    infos: list[tp.Any]  # a `SegmentInfo` or `MusicInfo` per segment, without its clip
    style_clips: WavCondition | None = None  # of all segments

    def __post_init__(self):
        if (self.wavs is None) == (self.codes is None):
            raise ValueError("A batch holds either `wavs` or `codes`.")

    def __len__(self) -> int:
        return len(tp.cast(Tensor, self.codes if self.wavs is None else self.wavs))

    @property
    def num_samples(self) -> list[int]:
        """Valid samples of each segment."""
        return [info.n_frames for info in self.infos]

    def condition_attributes(self) -> list[ConditioningAttributes]:
        """The conditions of each segment; its style clip is called `self_wav`."""
        attributes = [info.to_condition_attributes() for info in self.infos]
        if self.style_clips is not None:
            for i, sample in enumerate(attributes):
                sample.wav["self_wav"] = select_clips(self.style_clips, i, i + 1)
        return attributes

    def split(self, number: int) -> list["Batch"]:
        """Split into `number` micro-batches of equal size."""
        size = len(self) // number
        return [self._select(start, start + size) for start in range(0, size * number, size)]

    def _select(self, start: int, stop: int) -> "Batch":
        clips = self.style_clips
        return Batch(
            wavs=None if self.wavs is None else self.wavs[start:stop],
            codes=None if self.codes is None else self.codes[start:stop],
            infos=self.infos[start:stop],
            style_clips=None if clips is None else select_clips(clips, start, stop),
        )

    def pin_memory(self) -> "Batch":
        """Copy waveforms and codes into page-locked memory; called by `DataLoader`."""
        return replace(
            self,
            wavs=None if self.wavs is None else self.wavs.pin_memory(),
            codes=None if self.codes is None else self.codes.pin_memory(),
        )


def stack(wavs: tp.Sequence[Tensor]) -> Tensor:
    """Stack `[C, T]` to `[B, C, T]`, padded with zeros to the longest.

    `default_collate` writes to shared memory if called in a worker process.
    """
    longest = max(wav.shape[-1] for wav in wavs)
    return default_collate([F.pad(wav, (0, longest - wav.shape[-1])) for wav in wavs])


def stack_clips(clips: tp.Sequence[WavCondition], wavs: Tensor) -> WavCondition:
    """Join single clips to a batch.

    Args:
        clips: One clip each; the waveform of each is `wavs[i]` without padding.
        wavs: Waveforms, `[B, C, T]`.
    """
    return WavCondition(
        wav=wavs,
        length=torch.cat([clip.length for clip in clips]),
        sample_rate=[clip.sample_rate[0] for clip in clips],
        path=[clip.path[0] for clip in clips],
        seek_time=[clip.seek_time[0] for clip in clips],
        start=[clip.start[0] for clip in clips],
    )
