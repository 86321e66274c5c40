"""Reading: libsndfile for what it knows (wav, flac, mp3, aiff), FFmpeg for the rest.

The content of a file decides which, never its extension. A part of a file equals the same slice
of the whole, to the sample: decoders that lean on earlier frames start a little earlier.
Ogg is FFmpeg's, which decodes vorbis in two thirds of libsndfile's time and opus in a third, but
for files that it refuses.
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

Source = str | Path | tp.BinaryIO

MP3_PREROLL = 32 * 576  # samples: an mp3 frame may borrow bits from many frames before it
AV_PREROLL = 0.5  # seconds
BLOCK = 2**20  # samples decoded at once, so that a lying header reserves no memory
HIGHEST_RATE = 2**24  # Hz; what claims more is damaged, and would take much memory
MANY = 2**62  # samples, more than any file has
UNINDEXED = ("mp3", "aac")  # FFmpeg guesses the duration of these from the bit rate
# What FFmpeg may take a file for. Others, such as playlists, make it open further files.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,"
    "mj2,mp3,mpc,mpc8,mpeg,mpegts,ogg,tak,tta,voc,w64,wav,wv"
)

UNREADABLE = (soundfile.SoundFileError, av.FFmpegError, OSError, MemoryError, ValueError)


class AudioFileInfo(tp.NamedTuple):
    """What the header of an audio file says."""

    sample_rate: int
    duration: float  # seconds
    channels: int


class SoundfileReader:
    """A file that libsndfile reads."""

    def __init__(self, file: soundfile.SoundFile, num_bytes: int):
        self.file = file
        self.num_bytes = num_bytes  # of the whole file
        self.sample_rate = file.samplerate
        self.channels = file.channels
        self.kind = file.format.lower()  # of file, whatever its name says

    def info(self) -> AudioFileInfo:
        return AudioFileInfo(self.sample_rate, self.file.frames / self.sample_rate, self.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Samples from `start`, `[C, T]`; fewer where the file ends."""
        if start >= self.file.frames:
            return torch.zeros(self.channels, 0)
        early = min(start, MP3_PREROLL) if self.file.format == "MP3" else 0
        self.file.seek(start - early)
        missing = self.file.frames - start if num_samples is None else num_samples
        missing += early
        blocks: list[np.ndarray] = [np.zeros((0, self.channels), self._dtype)]
        while missing > 0 and len(block := self._next(min(missing, BLOCK))):
            blocks.append(block)
            missing -= len(block)
        joined = blocks[-1] if len(blocks) == 2 else np.concatenate(blocks)
        return torch.from_numpy(_by_channel(joined[early:]))

    def blocks(self) -> tp.Iterator[Tensor]:
        """Everything that follows, `[C, T]` each."""
        while len(block := self._next(BLOCK)):
            yield torch.from_numpy(_by_channel(block))

    @property
    def _dtype(self) -> tp.Literal["int16", "float32"]:
        """16 bit samples are cheap to read, and become floats while channels are sorted."""
        return "int16" if self.file.subtype == "PCM_16" else "float32"

    def _next(self, num_samples: int) -> np.ndarray:
        return self.file.read(num_samples, dtype=self._dtype, always_2d=True)


def _by_channel(samples: np.ndarray) -> np.ndarray:
    """Samples `[T, C]`, 16 bit or float, as floats `[C, T]`."""
    if samples.dtype == np.float32:
        return np.ascontiguousarray(samples.T)
    floats = np.empty(samples.shape[::-1], np.float32)
    return np.multiply(samples.T, np.float32(2**-15), out=floats)


class AvReader:
    """A file that FFmpeg reads."""

    def __init__(self, container: InputContainer, stream: AudioStream, num_bytes: int):
        self.container = container
        self.num_bytes = num_bytes  # of the whole file
        self.kind = container.format.name.split(",")[0]
        self.stream = stream
        self.sample_rate = stream.rate
        self.channels = stream.channels
        self.time_base = stream.time_base or Fraction(1, max(1, stream.rate))
        self.moved = False  # away from the beginning

    @property
    def _indexed_duration(self) -> int | None:
        """Duration in units of the time base, where the file tells it."""
        return None if self.container.format.name in UNINDEXED else self.stream.duration

    def info(self) -> AudioFileInfo:
        duration = self._indexed_duration
        if duration is None:
            packets = self.container.demux(self.stream)
            duration = sum(packet.duration or 0 for packet in packets)
            self.moved = True
        seconds = float(duration * self.time_base)
        if self.stream.codec_context.name.endswith("opus"):  # the start that is not played
            seconds -= self.stream.codec_context.delay / self.sample_rate
        return AudioFileInfo(self.sample_rate, seconds, self.channels)

    def read(self, start: int, num_samples: int | None) -> Tensor:
        """Samples from `start`, `[C, T]`; fewer where the file ends."""
        end = MANY if num_samples is None else start + num_samples
        if self._indexed_duration is not None:  # what follows is padding of the codec
            end = min(end, self._sample_at(self._indexed_duration))
        early = max(0.0, start / self.sample_rate - AV_PREROLL)
        first, frames = self._decode(start, end, early)
        if early and first > start:  # a file whose seeking cannot be trusted
            first, frames = self._decode(start, end, 0.0)
        if not frames or first > start:
            return torch.zeros(self.channels, 0)
        wanted = self._join(frames)[:, start - first : max(start, end) - first]
        return torch.from_numpy(np.ascontiguousarray(wanted))

    def blocks(self) -> tp.Iterator[Tensor]:
        """The whole file, `[C, T]` each."""
        end = MANY if self._indexed_duration is None else self._sample_at(self._indexed_duration)
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
        """The samples of frames, `[C, T]`."""
        num_samples = sum(frame.samples for frame in frames)
        samples = np.empty((self.channels, num_samples), np.float32)
        pieces = zip(*(_samples(frame) for frame in frames), strict=True)
        for channel, of_channel in zip(samples, pieces, strict=True):
            np.concatenate(of_channel, out=channel)
        return samples

    def _decode(self, start: int, end: int, early: float) -> tuple[int, list[AudioFrame]]:
        """The sample at which decoding began, and all frames from there until `end`.

        Single frames of vorbis bear a wrong time, so samples are counted from the median of what
        the frames before `start` say.
        """
        origin = self.stream.start_time or 0
        if early or self.moved:
            self.container.seek(origin + int(early / self.time_base), stream=self.stream)
        self.moved = True
        frames: list[AudioFrame] = []
        stamps, num_samples, first = [], 0, None
        for frame in self.container.decode(self.stream):
            if frame.pts is None:
                raise AudioError("a frame does not say when it sounds")
            stamps.append(self._sample_at(frame.pts - origin) - num_samples)
            frames.append(frame)
            num_samples += frame.samples
            if first is None and stamps[-1] + num_samples > start:
                first = median_low(stamps) if early else 0
            if first is not None and first + num_samples >= end:
                break
        return MANY if first is None else first, frames

    def _sample_at(self, time: int) -> int:
        """The sample that sounds at a time in units of the time base."""
        numerator, denominator = self.time_base.numerator, self.time_base.denominator
        return (2 * time * numerator * self.sample_rate + denominator) // (2 * denominator)


def _samples(frame: AudioFrame) -> list[np.ndarray]:
    """The floats of a frame, one array per channel."""
    if frame.format.name != "fltp":
        (frame,) = av.AudioResampler(format="fltp").resample(frame)
    planes: tp.Any = frame.planes
    return [np.frombuffer(plane, np.float32, frame.samples) for plane in planes]


@contextlib.contextmanager
def opened(source: Source) -> tp.Iterator[tuple[SoundfileReader | AvReader, str]]:
    """Open a source with the decoder that understands it; failures become `AudioError`s."""
    name = str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "audio"))
    with contextlib.ExitStack() as stack:
        try:
            file = source
            if isinstance(source, str | Path):
                file = stack.enter_context(open_binary(source))
            reader = _reader(tp.cast(tp.BinaryIO, file), source, stack)
            if not (0 < reader.sample_rate <= HIGHEST_RATE and reader.channels > 0):
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
            reason = str(getattr(error, "strerror", None) or error).rstrip(".")
            raise AudioError(f"{name} cannot be read as audio: {reason}.") from None


def _reader(
    file: tp.BinaryIO, source: Source, stack: contextlib.ExitStack
) -> SoundfileReader | AvReader:
    readable: tp.Any = file
    if isinstance(source, str | Path) and split_member(source)[1] is None:
        readable = os.fsencode(source)  # libsndfile is faster on a path; names may not be UTF-8
    file.seek(0, os.SEEK_END)
    num_bytes = file.tell()
    file.seek(0)
    head = file.read(4)
    if not isinstance(head, bytes):
        raise AudioError("it is open as text: open it with mode 'rb'")
    is_ogg = head == b"OggS"
    if not is_ogg:
        file.seek(0)
        try:
            sound = stack.enter_context(soundfile.SoundFile(readable))
            if sound.format != "MP3" or _mp3_knows_its_length(file):
                return SoundfileReader(sound, num_bytes)
        except (soundfile.SoundFileError, TypeError):  # TypeError: a `.raw` file needs a format
            pass
    try:
        container = stack.enter_context(_open_av(file))
    except av.FFmpegError:
        if not is_ogg:
            raise
        file.seek(0)  # libsndfile passes over headers that come twice
        return SoundfileReader(stack.enter_context(soundfile.SoundFile(readable)), num_bytes)
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    if not tracks:
        raise AudioError("it has no audio track that could be decoded")
    return AvReader(container, tracks[0], num_bytes)


def _open_av(file: tp.BinaryIO) -> InputContainer:
    file.seek(0)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    return av.open(file, "r", metadata_errors="replace", container_options=options)


def read_tags(source: str | Path) -> dict[str, str]:
    """What a file says about itself, by names in lower case; nothing if it cannot be read."""
    try:
        with open_binary(source) as file, _open_av(file) as container:
            tags = dict(container.metadata)
            for track in container.streams.audio:
                tags |= track.metadata
            return {name.lower(): text for name, text in tags.items()}
    except UNREADABLE:
        return {}


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
