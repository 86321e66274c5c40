"""Data sets of music whose audio was encoded beforehand, read from a token folder.

For every (seed, epoch, index) the same file and the same position are drawn as by a `MusicDataset`
with the same settings, also after files that could not be read. The position is then rounded down
to the nearest place where codes can be cut, `floor(seek_time * frame_rate)`, so that a segment
starts up to one frame earlier than it would in the audio; `seek_time` of its metadata is the exact
position. A segment has `ceil(num_samples / hop_length)` frames. After the end of a file it is
padded with the codes of silence.
"""

import logging
import math
import typing as tp
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import AudioError, ManifestError
from ..audio_dataset import CHECKED_FILES
from ..audio_utils import convert_audio
from ..batch import Batch, SegmentInfo, stack, stack_clips
from ..conditions import WavCondition, wav_condition
from ..music_dataset import MusicDataset
from ..music_info import InvalidInfoError, MusicInfo, parse_music_info
from .format import TokenFolder

logger = logging.getLogger(__name__)


class TokenFolderDataset(MusicDataset):
    """Segments of a folder written by `python -m audiocraft encode-dataset`.

    Subclasses define whether a segment is read as codes or as audio.

    Args:
        folder: The token folder.
        num_codebooks: Codebooks of a sample, the first ones; `None` selects all.
        load_wav: Also read waveforms; `False` if no style conditioner needs them.
        kwargs: Arguments of `MusicDataset`; `sample_rate` and `channels` must be the tokenizer's.

    Raises:
        ManifestError: The folder is not complete, or has no waveforms although `load_wav` is true.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_codebooks: int | None = None,
        load_wav: bool = True,
        **kwargs: tp.Any,
    ):
        self.tokens = TokenFolder(folder)
        self.tokenizer = self.tokens.header.tokenizer
        self.num_codebooks = num_codebooks or self.tokenizer.num_codebooks
        if load_wav and self.tokens.header.wave_rate is None:
            raise ManifestError(
                f"{folder} was encoded without waveforms, which the style conditioner and the "
                "generate stage need. Encode it again without --no-wave, or use an audio manifest."
            )
        super().__init__(self.tokens.files, load_wav=load_wav, **kwargs)

    def locate(self, file: int, seek_time: float) -> tuple[SegmentInfo, int]:
        """Compute the position of a segment.

        Args:
            file: Index of the file.
            seek_time: Start of the segment, in seconds.

        Returns:
            The segment, and the index of its first frame.

        Raises:
            AudioError: The file could not be encoded, or ends before `seek_time`.
        """
        row, meta = self.meta.row(file), self.meta[file]
        problem = self.tokens.problem(row)
        if problem is not None:
            raise AudioError(problem)
        cut = self.tokenizer.frames_per_cut
        cuts = math.floor(seek_time * self.tokenizer.frame_rate / cut + 1e-6)
        remaining = self.tokens.number("num_samples", row) - cuts * self.tokenizer.hop_length
        if remaining <= 0:
            raise AudioError(f"{meta.path} has no audio at {seek_time:.3f} s.")
        total = remaining
        if self.segment_duration is not None:
            total = int(self.segment_duration * self.tokenizer.sample_rate)
        valid = min(remaining, total)
        segment = SegmentInfo(
            meta=meta,
            seek_time=cuts * cut / self.tokenizer.frame_rate,
            n_frames=valid,
            total_frames=total if self.pad else valid,
            sample_rate=self.tokenizer.sample_rate,
            channels=self.tokenizer.channels,
        )
        return segment, cuts * cut

    def read_wave(self, file: int, segment: SegmentInfo) -> Tensor:
        """Read the valid part of a segment as a waveform, `[1, T]` at `wave_rate`."""
        start = round(segment.seek_time * self.wave_rate)
        length = segment.n_frames * self.wave_rate // segment.sample_rate
        samples = self.tokens.wave(self.meta.row(file), start, start + length)
        return torch.from_numpy(samples)[None]

    @property
    def wave_rate(self) -> int:
        """Sample rate of the waveforms, in Hz."""
        return tp.cast(int, self.tokens.header.wave_rate)

    def load_info(self, file: int, segment: SegmentInfo | None = None, **more: tp.Any) -> MusicInfo:
        path = ((segment and segment.meta) or self.meta[file]).path
        raw = self.tokens.info(self.meta.row(file))
        if raw is None:
            raise InvalidInfoError(f"{path} had no readable metadata when it was encoded.")
        source = f"The metadata of {path}"
        return parse_music_info(raw, source, self.required_fields, segment, **more)

    def check(self, limit: int = CHECKED_FILES) -> None:
        """Check that all shards are complete, and read the metadata of some files.

        Raises:
            AudioError: No file could be encoded.
            ManifestError: A shard is missing or truncated, or the metadata lack a field.
        """
        self.tokens.check_sizes()
        failed = np.flatnonzero(self.meta.column("num_samples") == 0)
        if len(failed):
            first = self.tokens.problem(self.meta.row(int(failed[0])))
            message = (
                f"{len(failed)} of {len(self.meta)} files could not be encoded. First: {first}"
            )
            if len(failed) == len(self.meta):
                raise AudioError(message)
            logger.warning("%s They are skipped.", message)
        self.check_infos(limit)


class TokenDataset(TokenFolderDataset):
    """Segments as codes: samples are `(codes [K, F] long, MusicInfo)`.

    If the folder has waveforms, `self_wav` of the `MusicInfo` is the same segment at `wave_rate`.
    """

    def __init__(self, folder: str | Path, **kwargs: tp.Any):
        super().__init__(folder, **kwargs)
        self.silence = torch.tensor(self.tokens.header.silence)[: self.num_codebooks, None]

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """Read the codes of one segment, `[K, F]`."""
        row = self.meta.row(file)
        segment, start = self.locate(file, seek_time)
        stop = start + self.tokenizer.num_frames(segment.total_frames)
        stored = self.tokens.codes(row, start, stop)[:, : self.num_codebooks]
        codes = torch.from_numpy(stored.T.astype(np.int64))
        return self._pad(codes, stop - start if self.pad else codes.shape[-1]), segment

    def style_clip(self, file: int, segment: SegmentInfo, wav: Tensor) -> WavCondition | None:
        """The waveform of a segment, padded with zeros; `None` if `load_wav` is false."""
        if not self.load_wav:
            return None
        wave = self.read_wave(file, segment)
        path, rate = tp.cast(tp.Any, segment.meta).path, self.wave_rate
        total = segment.total_frames * rate // segment.sample_rate
        return wav_condition(
            F.pad(wave, (0, total - wave.shape[-1])),
            rate,
            length=wave.shape[-1],
            path=path,
            seek_time=segment.seek_time,
        )

    def collater(self, samples: tp.Sequence[tp.Any]) -> Batch:
        """Join samples to a batch, codes padded with silence to the longest."""
        codes, infos = zip(*samples)
        longest = max(c.shape[-1] for c in codes)
        clips = [info.self_wav for info in infos]
        style_clips = None
        if clips[0] is not None:
            style_clips = stack_clips(clips, stack([clip.wav[0] for clip in clips]))
        return Batch(
            codes=stack([self._pad(c, longest) for c in codes]),
            infos=[replace(info, self_wav=None) for info in infos],
            style_clips=style_clips,
        )

    def _pad(self, codes: Tensor, num_frames: int) -> Tensor:
        silence = self.silence.expand(-1, num_frames - codes.shape[-1])
        return torch.cat([codes, silence], dim=-1)


class TokenAudioDataset(TokenFolderDataset):
    """The same segments as audio, `[C, T]` at the tokenizer's rate, read from the waveforms.

    Used by the generate stage, which needs audio for prompts and as the reference of a sample.
    """

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """Read one segment, `[C, T]`."""
        segment, _ = self.locate(file, seek_time)
        wav = self.read_wave(file, segment)
        wav = convert_audio(wav, self.wave_rate, segment.sample_rate, segment.channels)
        return F.pad(wav, (0, segment.total_frames - wav.shape[-1])), segment
