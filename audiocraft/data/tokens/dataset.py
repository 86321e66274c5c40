"""A data set of music whose audio is tokens already.

It draws what `MusicDataset` draws with the same settings: the same file and the same second for
every (seed, epoch, index), whatever could not be read included. Then the second is rounded down
to where tokens can be cut, `floor(seek_time · frame_rate)`, so that a segment starts up to one
frame earlier than it would in the audio; `seek_time` of its info says where. It has as many
tokens as the segment of audio would have, `ceil(num_samples / hop_length)`; after the end of the
file come those of silence.
"""

import logging
import math
import typing as tp
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import AudioError, ManifestError
from ..audio_dataset import CHECKED_FILES, SegmentInfo, stack
from ..audio_utils import convert_audio
from ..conditions import WavCondition, wav_condition
from ..music_dataset import MusicDataset, share_batch_memory
from ..music_info import InvalidInfoError, MusicInfo, parse_music_info
from .format import TokenFolder

logger = logging.getLogger(__name__)


class TokenDataset(MusicDataset):
    """Segments of a folder that `python -m audiocraft encode-dataset` wrote.

    A sample is `(codes [K, F] long, MusicInfo)`. Where the folder has waveforms, the `MusicInfo`
    holds the same segment at the listener's rate as `self_wav`.

    Args:
        folder: The folder.
        num_codebooks: Codebooks of a sample, the first ones; `None` is all.
        load_wav: Hand out waveforms; `False` where no listener needs them.
        kwargs: As for `MusicDataset`; `sample_rate` and `channels` have to be the tokenizer's.

    Raises:
        ManifestError: The folder is not complete, or has no waveforms where they are needed.
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
        self.silence = torch.tensor(self.tokens.header.silence)[: self.num_codebooks, None]
        if load_wav and self.tokens.header.wave_rate is None:
            raise ManifestError(
                f"{folder} was encoded without waveforms, which a style conditioner and the "
                "generate stage hear. Encode it again without --no_wave, or give audio instead."
            )
        super().__init__(self.tokens.files, load_wav=load_wav, **kwargs)

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """The tokens of one segment, `[K, F]`."""
        row = self.meta.row(file)
        segment, start = self.place(file, seek_time)
        stop = start + self.tokenizer.num_frames(segment.total_frames)
        stored = self.tokens.codes(row, start, stop)[:, : self.num_codebooks]
        codes = torch.from_numpy(stored.T.astype(np.int64))
        return self._filled(codes, stop - start if self.pad else codes.shape[-1]), segment

    def place(self, file: int, seek_time: float) -> tuple[SegmentInfo, int]:
        """A segment and its first frame.

        Raises:
            AudioError: The file could not be encoded, or ends before `seek_time` seconds.
        """
        row, meta = self.meta.row(file), self.meta[file]
        problem = self.tokens.problem(row)
        if problem is not None:
            raise AudioError(problem)
        cut = self.tokenizer.frames_per_cut
        cuts = math.floor(seek_time * self.tokenizer.frame_rate / cut + 1e-6)
        left = self.tokens.number("num_samples", row) - cuts * self.tokenizer.hop_length
        if left <= 0:
            raise AudioError(f"{meta.path} holds no audio at second {seek_time:.3f}.")
        wanted = left
        if self.segment_duration is not None:
            wanted = int(self.segment_duration * self.tokenizer.sample_rate)
        real = min(left, wanted)
        segment = SegmentInfo(
            meta=meta,
            seek_time=cuts * cut / self.tokenizer.frame_rate,
            n_frames=real,
            total_frames=wanted if self.pad else real,
            sample_rate=self.tokenizer.sample_rate,
            channels=self.tokenizer.channels,
        )
        return segment, cuts * cut

    def style_clip(self, file: int, segment: SegmentInfo, wav: Tensor) -> WavCondition | None:
        """The waveform of a segment at the listener's rate, where there is one."""
        if not self.load_wav:
            return None
        wave = self.wave(file, segment)
        path, rate = tp.cast(tp.Any, segment.meta).path, self.wave_rate
        total = segment.total_frames * rate // segment.sample_rate
        return wav_condition(
            F.pad(wave, (0, total - wave.shape[-1])),
            rate,
            length=wave.shape[-1],
            path=path,
            seek_time=segment.seek_time,
        )

    def wave(self, file: int, segment: SegmentInfo) -> Tensor:
        """What is real of a segment, `[1, T]` at `wave_rate`."""
        start = round(segment.seek_time * self.wave_rate)
        length = segment.n_frames * self.wave_rate // segment.sample_rate
        samples = self.tokens.wave(self.meta.row(file), start, start + length)
        return torch.from_numpy(samples)[None]

    @property
    def wave_rate(self) -> int:
        """Samples per second of the waveforms."""
        return tp.cast(int, self.tokens.header.wave_rate)

    def load_info(self, file: int, segment: SegmentInfo | None = None, **more: tp.Any) -> MusicInfo:
        path = ((segment and segment.meta) or self.meta[file]).path
        raw = self.tokens.info(self.meta.row(file))
        if raw is None:
            raise InvalidInfoError(f"{path} had no readable metadata when it was encoded.")
        source = f"The metadata of {path}"
        return parse_music_info(raw, source, self.required_fields, segment, **more)

    def collater(self, samples: tp.Sequence[tp.Any]) -> tuple[Tensor, list[MusicInfo]]:
        """Stack tokens to `[B, K, F]`, filled with silence to the longest, and their clips."""
        codes, infos = zip(*samples)
        longest = max(c.shape[-1] for c in codes)
        stacked = stack([self._filled(c, longest) for c in codes])
        if infos[0].self_wav is None:
            return stacked, list(infos)
        return stacked, share_batch_memory(list(infos), stack([i.self_wav.wav[0] for i in infos]))

    def _filled(self, codes: Tensor, num_frames: int) -> Tensor:
        silence = self.silence.expand(-1, num_frames - codes.shape[-1])
        return torch.cat([codes, silence], dim=-1)

    def check(self, limit: int = CHECKED_FILES) -> None:
        """See that all shards are whole, and read the metadata of some files.

        Raises:
            AudioError: No file could be encoded.
            ManifestError: A shard is missing or cut short, or the metadata lack a field.
        """
        self.tokens.check_sizes()
        damaged = np.flatnonzero(self.meta.column("num_samples") == 0)
        if len(damaged):
            first = self.tokens.problem(self.meta.row(int(damaged[0])))
            told = (
                f"{len(damaged)} of {len(self.meta)} files could not be encoded, such as: {first}"
            )
            if len(damaged) == len(self.meta):
                raise AudioError(told)
            logger.warning("%s They will be skipped.", told)
        self.check_infos(limit)


class TokenAudioDataset(TokenDataset):
    """The same segments as audio again, `[C, T]` at the tokenizer's rate, out of the waveforms.

    For generation, which goes on from audio and is heard beside it.
    """

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """One segment, `[C, T]`."""
        segment, _ = self.place(file, seek_time)
        wav = self.wave(file, segment)
        wav = convert_audio(wav, self.wave_rate, segment.sample_rate, segment.channels)
        return F.pad(wav, (0, segment.total_frames - wav.shape[-1])), segment

    def style_clip(self, file: int, segment: SegmentInfo, wav: Tensor) -> WavCondition | None:
        return MusicDataset.style_clip(self, file, segment, wav)

    def collater(self, samples: tp.Sequence[tp.Any]) -> tuple[Tensor, list[MusicInfo]]:
        return MusicDataset.collater(self, samples)
