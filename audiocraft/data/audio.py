"""Audio files in and out, as everybody else sees them.

Which library decodes or encodes is known to `decoders.py` and `encoders.py` alone.
"""

import math
import os
import typing as tp
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from ..errors import AudioError
from .audio_utils import f32_pcm, normalize_audio
from .io.decoders import AudioFileInfo as AudioFileInfo
from .io.decoders import Source, opened
from .io.encoders import FORMATS, encode


def audio_info(path: Source) -> AudioFileInfo:
    """Read the header of an audio file.

    Args:
        path: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.

    Raises:
        AudioError: There is no such file, it holds no audio, or its header cannot be true.
    """
    with opened(path) as (reader, name):
        info = reader.info()
    if info.duration <= 0:
        raise AudioError(f"{name} holds no audio: its length is zero.")
    if info.duration > reader.num_bytes:  # even silence takes more than a byte per second
        raise AudioError(
            f"{name} claims to last {info.duration / 3600:.0f} hours, in {reader.num_bytes} bytes."
        )
    return info


def audio_read(
    path: Source, seek_time: float = 0.0, duration: float = -1.0, pad: bool = False
) -> tuple[Tensor, int]:
    """Read an audio file, or a part of it.

    Args:
        path: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.
        seek_time: Where to start, in seconds.
        duration: How much to read, in seconds; negative is all that follows.
        pad: Append zeros where the file ends before `duration`.

    Returns:
        Waveform `[C, T]`, float in [-1, 1], and its sample rate.

    Raises:
        AudioError: The file is missing, damaged, holds no audio, or ends before `seek_time`.
        ValueError: `seek_time` is negative.
    """
    if not seek_time >= 0:
        raise ValueError(f"seek_time must be at least 0 seconds but is {seek_time}.")
    with opened(path) as (reader, name):
        rate = reader.sample_rate
        wanted = None if duration < 0 else _num_samples(duration, rate)
        wav = reader.read(_num_samples(seek_time, rate), wanted)
    if wav.shape[-1] == 0 and wanted != 0:
        if seek_time > 0:
            raise AudioError(f"{name} ends before second {seek_time:.3f}: nothing to read there.")
        raise AudioError(f"{name} holds no audio: its length is zero.")
    if pad and wanted is not None:
        wav = F.pad(wav, (0, wanted - wav.shape[-1]))
    return wav, rate


def audio_blocks(path: Source) -> tp.Iterator[Tensor]:
    """Read a whole audio file block by block, whatever its length, in little memory.

    Args:
        path: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.

    Yields:
        Waveforms `[C, T]`, float in [-1, 1], that follow each other.

    Raises:
        AudioError: The file is missing, damaged, or holds no audio.
    """
    empty = True
    with opened(path) as (reader, name):
        for block in reader.blocks():
            empty = False
            yield block
    if empty:
        raise AudioError(f"{name} holds no audio: its length is zero.")


def _num_samples(seconds: float, sample_rate: int) -> int:
    return math.floor(seconds * sample_rate + 1e-6)  # 0.57 s at 100 Hz are 57


def audio_write(
    stem: str | Path,
    wav: Tensor,
    sample_rate: int,
    format: str = "wav",
    mp3_rate: int = 320,
    ogg_rate: int | None = None,
    normalize: bool = True,
    strategy: tp.Literal["peak", "clip", "rms", "loudness"] = "peak",
    peak_clip_headroom_db: float = 1,
    rms_headroom_db: float = 18,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    log_clipping: bool = True,
    make_parent_dir: bool = True,
    add_suffix: bool = True,
) -> Path:
    """Write a waveform to a file, which appears complete or not at all.

    Args:
        stem: Path without its suffix.
        wav: Waveform, `[C, T]` or `[T]`, float in [-1, 1] or 16 or 32 bit PCM.
        sample_rate: Samples per second; opus files store 48 kHz whatever it is.
        format: One of `FORMATS`.
        mp3_rate: Bit rate of mp3 in kb/s.
        ogg_rate: Bit rate of ogg in kb/s, met within what the music allows; `None` is a middle
            quality.
        normalize: Also amplify; `False` lets `peak` and `rms` only attenuate.
        strategy: How the level is brought in range, see `normalize_audio`.
        peak_clip_headroom_db: Distance of peaks from full scale (`peak`, `clip`).
        rms_headroom_db: Distance of the RMS from full scale (`rms`).
        loudness_headroom_db: Distance of the loudness from full scale (`loudness`).
        loudness_compressor: Bend peaks softly instead of cutting them (`loudness`).
        log_clipping: Warn when samples are cut off.
        make_parent_dir: Create the folder if it is missing.
        add_suffix: Append the suffix of the format to `stem`.

    Returns:
        Path of the file.

    Raises:
        AudioError: The format is unknown or cannot hold this audio, samples are not finite, or the
            folder is missing.
    """
    wav = _as_waveform(wav, stem, format)
    wav = normalize_audio(
        wav,
        normalize,
        strategy,
        peak_clip_headroom_db,
        rms_headroom_db,
        loudness_headroom_db,
        loudness_compressor,
        log_clipping,
        sample_rate,
        str(stem),
    )
    path = Path(f"{stem}{FORMATS[format].suffix}" if add_suffix else stem)
    if make_parent_dir:
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise AudioError(f"There is no folder {path.parent}. Create it or set make_parent_dir.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        encode(unfinished, wav, sample_rate, format, mp3_rate, ogg_rate)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _as_waveform(wav: Tensor, stem: str | Path, format: str) -> Tensor:
    """What is to be written as floats `[C, T]`, once it is known that it can be.

    Raises:
        AudioError: The format is unknown, the shape is another, or samples are not finite.
    """
    if format not in FORMATS:
        raise AudioError(f"format is {format!r}. Choose one of: {', '.join(FORMATS)}.")
    wav = f32_pcm(wav.detach().cpu()).float()
    wav = wav[None] if wav.dim() == 1 else wav
    if wav.dim() != 2 or wav.numel() == 0:
        raise AudioError(f"A waveform to write is [C, T], not {list(wav.shape)}: {stem}.")
    if not wav.isfinite().all():
        raise AudioError(f"The waveform for {stem} holds values that are not finite.")
    return wav
