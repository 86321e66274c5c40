"""Audio files: read and write waveforms.

Decoders and encoders are in `io/decoders.py` and `io/encoders.py`.
"""

import math
import typing as tp
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from ..errors import AudioError
from ..utils.atomic_write import atomic_path
from .audio_utils import f32_pcm, normalize_audio
from .io.decoders import AudioFileInfo as AudioFileInfo
from .io.decoders import Source, opened
from .io.encoders import FORMATS, encode


def audio_info(filepath: Source) -> AudioFileInfo:
    """Read the header of an audio file.

    Args:
        filepath: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.

    Raises:
        AudioError: The file is missing, contains no audio, or its header is implausible.
    """
    with opened(filepath) as (reader, name):
        info = reader.info()
    if info.duration <= 0:
        raise AudioError(f"{name} contains no audio: its length is zero.")
    if info.duration > reader.num_bytes:  # even silence takes more than a byte per second
        raise AudioError(
            f"{name} claims to last {info.duration / 3600:.0f} hours, in {reader.num_bytes} bytes."
        )
    return info


def audio_read(
    filepath: Source, seek_time: float = 0.0, duration: float = -1.0, pad: bool = False
) -> tuple[Tensor, int]:
    """Read an audio file or a part of it.

    Args:
        filepath: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.
        seek_time: Start, in seconds.
        duration: Length, in seconds; negative: up to the end.
        pad: Append zeros if the file ends before `duration`.

    Returns:
        Waveform `[C, T]`, float in [-1, 1], and its sample rate.

    Raises:
        AudioError: The file is missing, damaged, contains no audio, or ends before `seek_time`.
        ValueError: `seek_time` is negative.
    """
    if not seek_time >= 0:
        raise ValueError(f"seek_time must be at least 0 seconds but is {seek_time}.")
    with opened(filepath) as (reader, name):
        rate = reader.sample_rate
        length = None if duration < 0 else _num_samples(duration, rate)
        wav = reader.read(_num_samples(seek_time, rate), length)
    if wav.shape[-1] == 0 and length != 0:
        if seek_time > 0:
            raise AudioError(f"{name} ends before seek_time, {seek_time:.3f} s.")
        raise AudioError(f"{name} contains no audio: its length is zero.")
    if pad and length is not None:
        wav = F.pad(wav, (0, length - wav.shape[-1]))
    return wav, rate


def audio_blocks(filepath: Source) -> tp.Iterator[Tensor]:
    """Read a whole audio file block by block, in constant memory.

    Args:
        filepath: A file, a zip member (`archive.zip:inner.mp3`), or a seekable file object.

    Yields:
        Consecutive waveforms `[C, T]`, float in [-1, 1].

    Raises:
        AudioError: The file is missing, damaged, or contains no audio.
    """
    empty = True
    with opened(filepath) as (reader, name):
        for block in reader.blocks():
            empty = False
            yield block
    if empty:
        raise AudioError(f"{name} contains no audio: its length is zero.")


def _num_samples(seconds: float, sample_rate: int) -> int:
    return math.floor(seconds * sample_rate + 1e-6)  # rounding: 0.57 s * 100 Hz is 57


def audio_write(
    stem_name: str | Path,
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
    """Write a waveform to a file, atomically.

    Args:
        stem_name: Path without extension.
        wav: Waveform, `[C, T]` or `[T]`, float in [-1, 1] or 16 or 32 bit PCM.
        sample_rate: Samples per second; opus is resampled to 48 kHz.
        format: One of `FORMATS`.
        mp3_rate: Bit rate of mp3 in kb/s.
        ogg_rate: Approximate bit rate of ogg in kb/s; `None`: medium quality.
        normalize: If `False`, `peak` and `rms` attenuate but do not amplify.
        strategy: Level normalization, see `normalize_audio`.
        peak_clip_headroom_db: Distance of peaks from full scale (`peak`, `clip`).
        rms_headroom_db: Distance of the RMS from full scale (`rms`).
        loudness_headroom_db: Distance of the loudness from full scale (`loudness`).
        loudness_compressor: Limit peaks with a hyperbolic tangent instead of clipping (`loudness`).
        log_clipping: Warn if samples are clipped.
        make_parent_dir: Create the folder if it is missing.
        add_suffix: Append the extension of the format to `stem_name`.

    Returns:
        Path of the file.

    Raises:
        AudioError: The format is unknown or does not support this audio, samples are not finite,
            or the folder is missing.
    """
    wav = _as_waveform(wav, stem_name, format)
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
        str(stem_name),
    )
    path = Path(f"{stem_name}{FORMATS[format].suffix}" if add_suffix else stem_name)
    if make_parent_dir:
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise AudioError(
            f"The folder {path.parent} does not exist. Create it or set make_parent_dir=True."
        )
    with atomic_path(path) as temporary:
        encode(temporary, wav, sample_rate, format, mp3_rate, ogg_rate)
    return path


def _as_waveform(wav: Tensor, stem_name: str | Path, format: str) -> Tensor:
    """Convert the waveform to write to floats `[C, T]`.

    Raises:
        AudioError: The format is unknown, the shape is not `[C, T]`, or samples are not finite.
    """
    if format not in FORMATS:
        raise AudioError(f"format={format!r} is not supported. Supported: {', '.join(FORMATS)}.")
    wav = f32_pcm(wav.detach().cpu()).float()
    wav = wav[None] if wav.dim() == 1 else wav
    if wav.dim() != 2 or wav.numel() == 0:
        raise AudioError(f"The waveform for {stem_name} must be [C, T] but is {list(wav.shape)}.")
    if not wav.isfinite().all():
        raise AudioError(f"The waveform for {stem_name} contains values that are not finite.")
    return wav
