"""Reading: libsndfile for what it knows (wav, flac, ogg, opus, mp3, aiff), FFmpeg for the rest.

The content of a file decides which, never its extension. A part of a file equals the same slice
of the whole, to the sample: decoders that lean on earlier frames start a little earlier.
"""

import contextlib
import os
import typing as tp
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from av.container import InputContainer
from torch import Tensor

from ..errors import AudioError
from .files import open_binary, split_member

Source = str | Path | tp.BinaryIO

MP3_PREROLL = 32 * 576  # samples: an mp3 frame may borrow bits from many frames before it
AV_PREROLL = 0.5  # seconds
BLOCK = 2**20  # samples decoded at once, so that a lying header reserves no memory
UNINDEXED = ("mp3", "aac")  # FFmpeg guesses the duration of these from the bit rate


class AudioFileInfo(tp.NamedTuple):
    """What the header of an audio file says."""

    sample_rate: int
    duration: float  # seconds
    channels: int


class SoundfileReader:
    """A file that libsndfile reads."""

    def __init__(self, file: soundfile.SoundFile):
        self.file = file

    def info(self) -> AudioFileInfo:
        rate, frames = self.file.samplerate, self.file.frames
        return AudioFileInfo(rate, frames / rate if rate else 0.0, self.file.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Samples from `start`, `[C, T]`; fewer where the file ends."""
        if start >= self.file.frames:
            return torch.zeros(self.file.channels, 0)
        early = min(start, MP3_PREROLL) if self.file.format == "MP3" else 0
        self.file.seek(start - early)
        missing = self.file.frames - start if num_samples is None else num_samples
        missing += early
        blocks: list[np.ndarray] = [np.zeros((0, self.file.channels), np.float32)]
        while missing > 0:
            block = self.file.read(min(missing, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block)
            missing -= len(block)
        joined = blocks[-1] if len(blocks) == 2 else np.concatenate(blocks)
        return torch.from_numpy(joined[early:]).t().contiguous()


class AvReader:
    """A file that FFmpeg reads."""

    def __init__(self, container: InputContainer):
        self.container = container
        self.stream = container.streams.audio[0]
        self.time_base = self.stream.time_base or Fraction(1, self.stream.rate)

    @property
    def _indexed_duration(self) -> int | None:
        """Duration in units of the time base, where the file tells it."""
        return None if self.container.format.name in UNINDEXED else self.stream.duration

    def info(self) -> AudioFileInfo:
        duration = self._indexed_duration
        if duration is None:
            packets = self.container.demux(self.stream)
            duration = sum(packet.duration or 0 for packet in packets)
            self.container.seek(0)
        seconds = float(duration * self.time_base)
        return AudioFileInfo(self.stream.rate, seconds, self.stream.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Samples from `start`, `[C, T]`; fewer where the file ends."""
        rate, time_base = self.stream.rate, self.time_base
        origin = self.stream.start_time or 0
        end = 2**62 if num_samples is None else start + num_samples
        if self._indexed_duration is not None:  # what follows is padding of the codec
            end = min(end, round(self._indexed_duration * time_base * rate))
        early = start / rate - AV_PREROLL
        if early > 0:
            self.container.seek(origin + int(early / time_base), stream=self.stream)
        resampler = av.AudioResampler(format="fltp")
        pieces: list[np.ndarray] = [np.zeros((self.stream.channels, 0), np.float32)]
        for decoded in self.container.decode(self.stream):
            if decoded.pts is None:
                raise AudioError("a frame does not say when it sounds")
            position = round((decoded.pts - origin) * time_base * rate)
            for frame in resampler.resample(decoded):
                skip = max(0, start - position)
                pieces.append(frame.to_ndarray()[:, skip : max(0, end - position)])
            if position + decoded.samples >= end:
                break
        return torch.from_numpy(np.concatenate(pieces, axis=1))


@contextlib.contextmanager
def opened(source: Source) -> tp.Iterator[tuple[SoundfileReader | AvReader, str]]:
    """Open a source with the decoder that understands it; failures become `AudioError`s."""
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "audio")
    with contextlib.ExitStack() as stack:
        try:
            file = source
            if isinstance(source, str | Path):
                file = stack.enter_context(open_binary(source))
            yield _reader(tp.cast(tp.BinaryIO, file), source, stack), str(name)
        except FileNotFoundError as error:
            reason = f" ({error.args[0]}.)" if error.errno is None else ""
            raise AudioError(f"There is no audio file {name}.{reason}") from None
        except AudioError as error:
            if str(name) in str(error):
                raise
            raise AudioError(f"{name} cannot be read as audio: {error}.") from None
        except (soundfile.SoundFileError, av.FFmpegError, OSError, MemoryError) as error:
            reason = str(getattr(error, "strerror", None) or error).rstrip(".")
            raise AudioError(f"{name} cannot be read as audio: {reason}.") from None


def _reader(
    file: tp.BinaryIO, source: Source, stack: contextlib.ExitStack
) -> SoundfileReader | AvReader:
    readable: tp.Any = file
    if isinstance(source, str | Path) and split_member(source)[1] is None:
        readable = os.fsencode(source)  # libsndfile is faster on a path; names may not be UTF-8
    try:
        sound = stack.enter_context(soundfile.SoundFile(readable))
        if sound.format != "MP3" or _mp3_knows_its_length(file):
            return SoundfileReader(sound)
    except (soundfile.SoundFileError, TypeError):  # TypeError: a `.raw` file needs a format
        pass
    file.seek(0)
    container = stack.enter_context(av.open(file, "r", metadata_errors="replace"))
    if not container.streams.audio or container.streams.audio[0].rate <= 0:
        raise AudioError("it has no audio track")
    return AvReader(container)


def _mp3_knows_its_length(file: tp.BinaryIO) -> bool:
    """Whether an mp3 counts its frames; libsndfile cuts a variable bit rate off without that."""
    position = file.tell()
    file.seek(0)
    head = file.read(10)
    tag = 0
    if head[:3] == b"ID3" and len(head) == 10:  # four bytes of seven bits
        tag = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0)))
    file.seek(tag)
    first_frame = file.read(2048)
    file.seek(position)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))
