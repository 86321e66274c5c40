"""Audio encoders: libsndfile for PCM and ogg, FFmpeg for mp3, m4a and opus."""

import io
import typing as tp
from pathlib import Path

import av
import soundfile
from torch import Tensor

from ...errors import AudioError
from ..audio_utils import i16_pcm, resample


class Format(tp.NamedTuple):
    """Container and codec of an output format."""

    suffix: str
    container: str  # name in libsndfile or FFmpeg
    encoder: str  # subtype in libsndfile or codec in FFmpeg
    by_ffmpeg: bool = False


FORMATS = {
    "wav": Format(".wav", "WAV", "PCM_16"),
    "flac": Format(".flac", "FLAC", "PCM_16"),
    "aiff": Format(".aiff", "AIFF", "PCM_16"),
    "ogg": Format(".ogg", "OGG", "VORBIS"),
    "mp3": Format(".mp3", "mp3", "libmp3lame", by_ffmpeg=True),
    "m4a": Format(".m4a", "ipod", "aac", by_ffmpeg=True),
    "opus": Format(".opus", "ogg", "libopus", by_ffmpeg=True),
}
AAC_RATE = 128_000  # bits per second and channel
OPUS_RATE = 48000  # Hz; the only output rate of Opus decoders


def encode(
    path: Path,
    wav: Tensor,
    sample_rate: int,
    format: str,
    mp3_rate: int = 320,
    ogg_rate: int | None = None,
) -> None:
    """Write a waveform to a file.

    Args:
        path: The file.
        wav: Waveform, `[C, T]`, float in [-1, 1].
        sample_rate: Samples per second; opus is resampled to 48 kHz.
        format: One of `FORMATS`.
        mp3_rate: Bit rate of mp3 in kb/s.
        ogg_rate: Bit rate of ogg in kb/s; `None`: medium quality.

    Raises:
        AudioError: The format does not support this number of channels or sample rate.
        OSError: The file cannot be written.
    """
    try:
        _encode(path, wav, sample_rate, FORMATS[format], mp3_rate, ogg_rate)
    except OSError:  # such as a full disk
        raise
    except (soundfile.SoundFileError, av.FFmpegError, ValueError):
        raise AudioError(
            f"{format} does not support {wav.shape[0]} channels at {sample_rate} Hz. "
            "Convert the audio with convert_audio, or write wav or flac."
        ) from None


def _encode(
    path: Path, wav: Tensor, sample_rate: int, kind: Format, mp3_rate: int, ogg_rate: int | None
) -> None:
    if kind.encoder == "libopus":
        wav, sample_rate = resample(wav, sample_rate, OPUS_RATE), OPUS_RATE
    if kind.by_ffmpeg:
        rates = {"libmp3lame": mp3_rate * 1000, "aac": wav.shape[0] * AAC_RATE}
        _encode_av(path, wav, sample_rate, kind, rates.get(kind.encoder))
    elif kind.encoder == "VORBIS":
        path.write_bytes(_encode_vorbis(wav, sample_rate, ogg_rate))
    else:
        samples, memory = i16_pcm(wav).t().numpy(), io.BytesIO()
        soundfile.write(memory, samples, sample_rate, kind.encoder, format=kind.container)
        path.write_bytes(memory.getbuffer())  # libsndfile does not report why a write fails


def _encode_av(
    path: Path, wav: Tensor, sample_rate: int, kind: Format, bit_rate: int | None
) -> None:
    # Noise substitution is random: a part of a file would differ from the whole.
    options = {"aac_pns": "0"} if kind.encoder == "aac" else {}
    layout = _layout(wav.shape[0], kind)
    with av.open(str(path), "w", format=kind.container) as container:
        stream = container.add_stream(
            kind.encoder, rate=sample_rate, layout=layout, options=options
        )
        stream = tp.cast(av.AudioStream, stream)
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(wav.contiguous().numpy(), "fltp", layout)
        frame.sample_rate, frame.pts = sample_rate, 0
        resampler = av.AudioResampler(
            stream.format, layout, sample_rate, stream.codec_context.frame_size
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def _layout(channels: int, kind: Format) -> str:
    """Channel layout for FFmpeg; AAC needs a named one, without a low-frequency channel."""
    if channels <= 2:
        return ("mono", "stereo")[channels - 1]
    return f"{channels}.0" if kind.encoder == "aac" else f"{channels} channels"


def _encode_vorbis(wav: Tensor, sample_rate: int, rate: int | None) -> bytes:
    """Encode to Ogg Vorbis. libsndfile takes a quality; a bit rate is found by bisection."""

    def encoded(compression: float) -> bytes:
        memory = io.BytesIO()
        with soundfile.SoundFile(
            memory,
            "w",
            sample_rate,
            wav.shape[0],
            "VORBIS",
            format="OGG",
            compression_level=compression,
        ) as file:
            for block in wav.t().split(sample_rate):  # libsndfile crashes on long blocks
                file.write(block.numpy())
        return memory.getvalue()

    if rate is None:
        return encoded(0.6)
    low, high, seconds, file = 0.0, 1.0, wav.shape[-1] / sample_rate, b""
    for _ in range(6):
        middle = (low + high) / 2
        file = encoded(middle)
        is_above = len(file) * 8 / 1000 / seconds > rate
        low, high = (middle, high) if is_above else (low, middle)
    return file
