"""Audio decoders: libsndfile for wav, flac, mp3 and aiff, FFmpeg for everything else.

The content of a file decides, never its extension. Reading a part of a file gives exactly the same
samples as slicing the whole: decoders whose frames depend on earlier ones start earlier and discard
the surplus. Ogg is decoded by FFmpeg, in two thirds (Vorbis) or one third (Opus) of the time that
libsndfile takes, unless FFmpeg rejects the file.
"""

import contextlib
import os
import typing as tp
from fractions import Fraction
from pathlib import Path
from statistics import median_low

import av
import numpy as np
import soundfile
import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from torch import Tensor

from ...errors import AudioError
from .files import open_binary, split_member
from .joined_streams import Window, find_streams, id3_size

Source = str | Path | tp.BinaryIO

MP3_PREROLL = 32 * 576  # samples; the bit reservoir lets an mp3 frame depend on many earlier frames
AV_PREROLL = 0.5  # seconds
BLOCK = 2**20  # samples decoded at once, so that a wrong header allocates no memory
MAX_SAMPLE_RATE = 2**24  # Hz; a header that claims more is damaged
NO_END = 2**62  # samples, more than any file has
ESTIMATED_DURATION = ("mp3", "aac")  # FFmpeg estimates their duration from the bit rate
# Containers that FFmpeg may detect. Others, such as playlists, make it open further files.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,"
    "mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,tak,tta,voc,w64,wav,wv"
)

UNREADABLE = (soundfile.SoundFileError, av.FFmpegError, OSError, MemoryError, ValueError)


class AudioFileInfo(tp.NamedTuple):
    """Header of an audio file."""

    sample_rate: int
    duration: float  # seconds
    channels: int


class SoundfileReader:
    """Reads a file with libsndfile."""

    def __init__(self, file: soundfile.SoundFile, num_bytes: int):
        self.file = file
        self.num_bytes = num_bytes  # of the whole file
        self.sample_rate = file.samplerate
        self.channels = file.channels
        self.kind = file.format.lower()  # detected from the content
        self.defect = ""

    def info(self) -> AudioFileInfo:
        return AudioFileInfo(self.sample_rate, self.file.frames / self.sample_rate, self.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Read samples from `start`, `[C, T]`; fewer at the end of the file."""
        if start >= self.file.frames:
            return torch.zeros(self.channels, 0)
        preroll = min(start, MP3_PREROLL) if self.file.format == "MP3" else 0
        if self.file.seekable():
            self.file.seek(start - preroll)
        else:  # some codecs of WAV, such as GSM 6.10
            self._skip(start - preroll)
        missing = self.file.frames - start if num_samples is None else num_samples
        missing += preroll
        blocks: list[np.ndarray] = [np.zeros((0, self.channels), self._dtype)]
        while missing > 0 and len(block := self._next(min(missing, BLOCK))):
            blocks.append(block)
            missing -= len(block)
        joined = blocks[-1] if len(blocks) == 2 else np.concatenate(blocks)
        return torch.from_numpy(_by_channel(joined[preroll:]))

    def _skip(self, num_samples: int) -> None:
        while num_samples > 0 and len(block := self._next(min(num_samples, BLOCK))):
            num_samples -= len(block)

    def blocks(self) -> tp.Iterator[Tensor]:
        """Read to the end of the file, `[C, T]` each."""
        while len(block := self._next(BLOCK)):
            yield torch.from_numpy(_by_channel(block))

    @property
    def _dtype(self) -> tp.Literal["int16", "float32"]:
        """16 bit samples are faster to read; `_by_channel` converts them."""
        return "int16" if self.file.subtype == "PCM_16" else "float32"

    def _next(self, num_samples: int) -> np.ndarray:
        return self.file.read(num_samples, dtype=self._dtype, always_2d=True)


def _by_channel(samples: np.ndarray) -> np.ndarray:
    """Convert samples `[T, C]`, 16 bit or float, to floats `[C, T]`."""
    if samples.dtype == np.float32:
        return np.ascontiguousarray(samples.T)
    floats = np.empty(samples.shape[::-1], np.float32)
    return np.multiply(samples.T, np.float32(2**-15), out=floats)


class AvReader:
    """Reads a file with FFmpeg."""

    def __init__(
        self, container: InputContainer, stream: AudioStream, num_bytes: int, defect: str = ""
    ):
        self.defect = defect
        self.container = container
        self.num_bytes = num_bytes  # of the whole file
        self.kind = container.format.name.split(",")[0]
        self.stream = stream
        self.sample_rate = stream.rate
        self.channels = stream.channels
        self.time_base = stream.time_base or Fraction(1, max(1, stream.rate))
        self.moved = False  # whether the read position has left the start

    @property
    def _indexed_duration(self) -> int | None:
        """Duration in units of the time base, if the file states it exactly."""
        return None if self.container.format.name in ESTIMATED_DURATION else self.stream.duration

    def info(self) -> AudioFileInfo:
        duration = self._indexed_duration
        if duration is None:
            packets = self.container.demux(self.stream)
            duration = sum(packet.duration or 0 for packet in packets)
            self.moved = True
        seconds = float(duration * self.time_base)
        if self.stream.codec_context.name.endswith("opus"):  # samples to skip at the start
            seconds -= self.stream.codec_context.delay / self.sample_rate
        return AudioFileInfo(self.sample_rate, seconds, self.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Read samples from `start`, `[C, T]`; fewer at the end of the file."""
        end = NO_END if num_samples is None else start + num_samples
        if self._indexed_duration is not None:  # the rest is padding of the codec
            end = min(end, self._sample_at(self._indexed_duration))
        seek_time = max(0.0, start / self.sample_rate - AV_PREROLL)
        first, frames = self._decode(start, end, seek_time)
        if seek_time and first > start:  # seeking is not reliable in this file
            first, frames = self._decode(start, end, 0.0)
        if not frames or first > start:
            return torch.zeros(self.channels, 0)
        wanted = self._join(frames)[:, start - first : max(start, end) - first]
        return torch.from_numpy(np.ascontiguousarray(wanted))

    def blocks(self) -> tp.Iterator[Tensor]:
        """Read the whole file, `[C, T]` each."""
        end = NO_END if self._indexed_duration is None else self._sample_at(self._indexed_duration)
        frames: list[AudioFrame] = []
        for frame in self.container.decode(self.stream):
            frames.append(frame)
            if len(frames) * frame.samples >= BLOCK:
                block = self._join(frames)[:, :end]
                end, frames = end - block.shape[1], []
                yield torch.from_numpy(block)
        if frames and end > 0:
            yield torch.from_numpy(self._join(frames)[:, :end])

    def _join(self, frames: tp.Sequence[AudioFrame]) -> np.ndarray:
        """Concatenate the samples of frames, `[C, T]`."""
        num_samples = sum(frame.samples for frame in frames)
        samples = np.empty((self.channels, num_samples), np.float32)
        channels = zip(*(_samples(frame) for frame in frames), strict=True)
        for out, channel in zip(samples, channels, strict=True):
            np.concatenate(channel, out=out)
        return samples

    def _decode(self, start: int, end: int, seek_time: float) -> tuple[int, list[AudioFrame]]:
        """Decode frames from `seek_time` to sample `end`.

        Single Vorbis frames have wrong timestamps, so the position is the median over the frames
        before `start`.

        Returns:
            Index of the first decoded sample, and the frames.
        """
        origin = self.stream.start_time or 0
        if seek_time or self.moved:
            self.container.seek(origin + int(seek_time / self.time_base), stream=self.stream)
        self.moved = True
        frames: list[AudioFrame] = []
        stamps, num_samples, first = [], 0, None
        for frame in self.container.decode(self.stream):
            if frame.pts is None:
                raise AudioError("a frame has no timestamp")
            stamps.append(self._sample_at(frame.pts - origin) - num_samples)
            frames.append(frame)
            num_samples += frame.samples
            if first is None and stamps[-1] + num_samples > start:
                first = median_low(stamps) if seek_time else 0
            if first is not None and first + num_samples >= end:
                break
        return NO_END if first is None else first, frames

    def _sample_at(self, time: int) -> int:
        """Convert a time in units of the time base to a sample index."""
        numerator, denominator = self.time_base.numerator, self.time_base.denominator
        return (2 * time * numerator * self.sample_rate + denominator) // (2 * denominator)


class JoinedReader:
    """Reads several streams that were joined to one file, one after the other."""

    def __init__(self, readers: tp.Sequence["SoundfileReader | AvReader"], num_bytes: int):
        first = readers[0]
        self.num_bytes = num_bytes
        self.sample_rate, self.channels, self.kind = first.sample_rate, first.channels, first.kind
        self.defect = f"it consists of {len(readers)} joined streams"
        for reader in readers[1:]:
            if (reader.sample_rate, reader.channels) != (self.sample_rate, self.channels):
                raise AudioError(f"{self.defect} with different sample rates or channels")
        self._readers = readers

    def _lengths(self) -> list[int]:
        return [round(reader.info().duration * self.sample_rate) for reader in self._readers]

    def info(self) -> AudioFileInfo:
        return AudioFileInfo(
            self.sample_rate, sum(self._lengths()) / self.sample_rate, self.channels
        )

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Read samples from `start`, `[C, T]`; fewer at the end of the file."""
        parts = [torch.zeros(self.channels, 0)]
        stop = NO_END if num_samples is None else start + num_samples
        offset = 0
        for reader, length in zip(self._readers, self._lengths()):
            first, last = max(start - offset, 0), min(stop - offset, length)
            if first < last:
                parts.append(reader.read(first, last - first))
            offset += length
        return torch.cat(parts, dim=1)

    def blocks(self) -> tp.Iterator[Tensor]:
        """Read the whole file, `[C, T]` each."""
        for reader in self._readers:
            yield from reader.blocks()


Reader = SoundfileReader | AvReader | JoinedReader


def _samples(frame: AudioFrame) -> list[np.ndarray]:
    """Samples of a frame as floats, one array per channel."""
    if frame.format.name != "fltp":
        (frame,) = av.AudioResampler(format="fltp").resample(frame)
    planes: tp.Any = frame.planes
    return [np.frombuffer(plane, np.float32, frame.samples) for plane in planes]


@contextlib.contextmanager
def opened(source: Source) -> tp.Iterator[tuple[Reader, str]]:
    """Open a source with a suitable decoder; decoding errors are raised as `AudioError`."""
    name = str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "audio"))
    with contextlib.ExitStack() as stack:
        try:
            file = source
            if isinstance(source, str | Path):
                file = stack.enter_context(open_binary(source))
            reader = _reader(tp.cast(tp.BinaryIO, file), source, stack)
            if not (0 < reader.sample_rate <= MAX_SAMPLE_RATE and reader.channels > 0):
                raise AudioError(
                    f"{name} claims {reader.channels} channels at {reader.sample_rate} Hz."
                )
            yield reader, name
        except FileNotFoundError as error:
            reason = f" ({error.args[0]}.)" if error.errno is None else ""
            raise AudioError(f"There is no audio file {name}.{reason}") from None
        except AudioError as error:
            if name in str(error):
                raise
            raise AudioError(f"{name} cannot be read as audio: {error}.") from None
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or getattr(error, "error_string", None)
            reason = str(reason or error).rstrip(".")
            raise AudioError(f"{name} cannot be read as audio: {reason}.") from None


def _reader(file: tp.BinaryIO, source: Source, stack: contextlib.ExitStack) -> Reader:
    readable: tp.Any = file
    if isinstance(source, str | Path) and split_member(source)[1] is None:
        readable = os.fsencode(source)  # libsndfile is faster with a path; it may not be UTF-8
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(4)
    if not isinstance(head, bytes):
        raise AudioError("it is opened as text: open it with mode 'rb'")
    if not head:
        raise AudioError("it is empty (0 bytes)")
    streams = find_streams(file) if head == b"OggS" or head[:3] == b"ID3" or head[0] == 255 else []
    if streams:
        windows = [tp.cast(tp.BinaryIO, Window(file, start, stop)) for start, stop in streams]
        return JoinedReader([_single_reader(w, w, head, stack) for w in windows], num_bytes)
    return _single_reader(file, readable, head, stack)


def _single_reader(
    file: tp.BinaryIO, readable: tp.Any, head: bytes, stack: contextlib.ExitStack
) -> SoundfileReader | AvReader:
    """Reader of a file that is not a series of joined streams.

    Args:
        file: The file.
        readable: The same file as a path, or `file`.
        head: Its first four bytes.
        stack: Closes the decoder.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    is_ogg = head == b"OggS"
    sound = None if is_ogg else _open_soundfile(file, readable, stack)
    defect = ""
    if sound is not None:
        if sound.frames and sound.frames / max(1, sound.samplerate) <= num_bytes:
            return SoundfileReader(sound, num_bytes)
        defect = "its header does not state a valid length"
    try:
        container = stack.enter_context(_open_av(file))
    except av.FFmpegError:
        if sound is not None:
            return SoundfileReader(sound, num_bytes)
        if not is_ogg:
            raise
        file.seek(0)  # libsndfile skips repeated headers
        return SoundfileReader(stack.enter_context(soundfile.SoundFile(readable)), num_bytes)
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not streams:
        raise AudioError("it has no audio stream that can be decoded")
    return AvReader(container, streams[0], num_bytes, defect)


def _open_soundfile(
    file: tp.BinaryIO, readable: tp.Any, stack: contextlib.ExitStack
) -> soundfile.SoundFile | None:
    """Open with libsndfile; `None` if it does not support the file."""
    file.seek(0)
    try:
        sound = stack.enter_context(soundfile.SoundFile(readable))
    except (soundfile.SoundFileError, TypeError):  # TypeError: a `.raw` file needs a format
        return None
    return sound if sound.format != "MP3" or _mp3_states_length(file) else None


def _open_av(file: tp.BinaryIO) -> InputContainer:
    file.seek(0)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    return av.open(file, "r", metadata_errors="replace", container_options=options)


def read_tags(source: str | Path) -> dict[str, str]:
    """Read the tags of a file, by lower-case names; empty if it cannot be read."""
    try:
        with open_binary(source) as file, _open_av(file) as container:
            tags = dict(container.metadata)
            for stream in container.streams.audio:
                tags |= stream.metadata
            return {name.lower(): text for name, text in tags.items()}
    except UNREADABLE:
        return {}


def _mp3_states_length(file: tp.BinaryIO) -> bool:
    """Whether an mp3 has a frame count; without, libsndfile truncates variable bit rate."""
    position = file.tell()
    file.seek(id3_size(file, 0))
    first_frame = file.read(2048)
    file.seek(position)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))
