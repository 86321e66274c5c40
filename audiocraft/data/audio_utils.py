"""Waveform processing: resampling, channel conversion, level normalization, PCM conversion.

Method: resampling by windowed sinc, Julius O. Smith, https://ccrma.stanford.edu/~jos/resample/;
loudness after ITU-R BS.1770-4.
"""

import logging
import math
import typing as tp
from functools import lru_cache

import julius
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from ..errors import AudioError

logger = logging.getLogger(__name__)

STRATEGIES = ("peak", "clip", "rms", "loudness")
MIN_GROUP = 64  # output samples per convolution: with fewer it is slow
MAX_GROUP = 512  # with more, the joint support of their filters is mostly zeros
MAX_KERNEL_SIZE = 2**24  # elements; beyond this the polyphase kernel would not fit in memory
LOUDNESS_WINDOW = 0.4  # seconds, the gating block of BS.1770
ENERGY_FLOOR = 2e-3  # RMS below which a clip is silent and not amplified


class _Polyphase(tp.NamedTuple):
    """Polyphase filters that map `step` input samples to a block, in groups of adjacent phases."""

    step: int
    padding: int  # input samples before and after
    groups: list[tuple[slice, Tensor]]  # support and filters [phases, 1, 1, taps]


@lru_cache(maxsize=32)
def _polyphase(old: int, new: int) -> _Polyphase:
    """Filters of `julius.ResampleFrac`; adjacent phases share a support without zero taps."""
    kernel = tp.cast(Tensor, julius.ResampleFrac(old, new).kernel)[:, 0]  # [new, taps]
    padding = (kernel.shape[1] - old) // 2
    repeats = -(-MIN_GROUP // new)
    rows = [F.pad(kernel, (i * old, (repeats - 1 - i) * old)) for i in range(repeats)]
    groups = []
    for filters in torch.cat(rows).split(MAX_GROUP):
        taps = filters.any(dim=0).nonzero()
        support = slice(int(taps.min()), int(taps.max()) + 1)
        filters = filters[:, None, None, support]
        groups.append((support, filters.contiguous(memory_format=torch.channels_last)))
    return _Polyphase(old * repeats, padding, groups)


def _resample_in_blocks(wav: Tensor, old: int, new: int) -> Tensor:
    """Same result as julius, twice as fast on a CPU: phases are output channels."""
    length = wav.shape[-1]
    num_samples = length * new // old
    step, padding, groups = _polyphase(old, new)
    num_blocks = -(-length // step)
    flat = wav.reshape(-1, length)
    after = padding + num_blocks * step - length
    flat = torch.cat([flat[:, :1].expand(-1, padding), flat, flat[:, -1:].expand(-1, after)], dim=1)
    outputs = []
    for support, filters in groups:
        inputs = flat[:, support.start : (num_blocks - 1) * step + support.stop]
        outputs.append(_convolve(inputs, filters.to(wav, non_blocking=wav.is_cuda), step))
    blocks = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    return blocks.flatten(1)[:, :num_samples].reshape(*wav.shape[:-1], num_samples)


def _convolve(wav: Tensor, filters: Tensor, step: int) -> Tensor:
    """Convolve `[N, T]` with filters `[phases, 1, 1, taps]` to `[N, blocks, phases]`."""
    with torch.autocast(wav.device.type, enabled=False):  # audio needs more than 16 bit floats
        if wav.device.type != "cpu":  # cuDNN convolves in reduced precision
            return wav.unfold(-1, filters.shape[-1], step) @ filters[:, 0, 0].t()
        return F.conv2d(wav[:, None, None], filters, stride=(1, step))[:, :, 0].transpose(1, 2)


def _resample_directly(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Same result as julius without a polyphase kernel: slower, in constant memory."""
    zeros, rolloff = 24, 0.945
    bandwidth = min(from_rate, to_rate) * rolloff
    width = math.ceil(zeros * from_rate / bandwidth)
    num_samples = wav.shape[-1] * to_rate // from_rate
    flat = F.pad(wav.reshape(-1, 1, wav.shape[-1]), (width, width + 1), mode="replicate")[:, 0]
    taps = torch.arange(-width, width + 1, device=wav.device)
    outputs = [flat[:, :0]]
    for out in torch.arange(num_samples, device=wav.device).split(2**21 // len(taps) + 1):
        before = out * from_rate // to_rate
        phase = (out * from_rate % to_rate).double() / to_rate
        time = (taps - phase[:, None]) * (bandwidth / from_rate)
        time = time.clamp(-zeros, zeros)
        kernel = torch.sinc(time) * torch.cos(math.pi * time / zeros / 2) ** 2
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(wav.dtype)
        outputs.append((flat[:, before[:, None] + taps + width] * kernel).sum(dim=-1))
    return torch.cat(outputs, dim=-1).view(*wav.shape[:-1], -1)


def resample(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate.

    Args:
        wav: Waveform, `[..., T]`.
        from_rate: Samples per second of `wav`.
        to_rate: Samples per second of the result.

    Returns:
        Waveform, `[..., floor(T * to_rate / from_rate)]`.

    Raises:
        ValueError: A rate is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"Sample rates must be positive but are {from_rate} and {to_rate}.")
    if from_rate == to_rate or wav.shape[-1] == 0:
        return wav
    common = math.gcd(from_rate, to_rate)
    old, new = from_rate // common, to_rate // common
    if new * (old + 2 * math.ceil(26 * old / min(old, new))) > MAX_KERNEL_SIZE:
        return _resample_directly(wav, old, new)
    return _resample_in_blocks(wav, old, new)


def convert_audio_channels(wav: Tensor, channels: int = 2) -> Tensor:
    """Change the number of channels: mean to mono, copy from mono, else keep the first ones.

    Args:
        wav: Waveform, `[..., C, T]`.
        channels: Number of channels of the result.

    Raises:
        ValueError: `channels` exceeds the number of channels of `wav`, which is not mono.
    """
    have = wav.shape[-2]
    if have == channels:
        return wav
    if channels == 1:
        return wav.mean(dim=-2, keepdim=True)
    if have == 1:
        return wav.expand(*wav.shape[:-2], channels, wav.shape[-1])
    if have > channels:
        return wav[..., :channels, :]
    raise ValueError(
        f"Audio with {have} channels cannot be converted to {channels} channels. "
        f"Choose at most {have}, or convert to mono first."
    )


def convert_audio(wav: Tensor, from_rate: int, to_rate: int, to_channels: int) -> Tensor:
    """Change the sample rate and the number of channels.

    Args:
        wav: Waveform, `[..., C, T]`.
        from_rate: Samples per second of `wav`.
        to_rate: Samples per second of the result.
        to_channels: Number of channels of the result.

    Returns:
        Waveform, `[..., to_channels, floor(T * to_rate / from_rate)]`.
    """
    if to_channels < wav.shape[-2]:  # fewer channels to resample
        wav = convert_audio_channels(wav, to_channels)
    return convert_audio_channels(resample(wav, from_rate, to_rate), to_channels)


def normalize_loudness(
    wav: Tensor,
    sample_rate: int,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    energy_floor: float = ENERGY_FLOOR,
) -> Tensor:
    """Scale to a loudness of `-loudness_headroom_db` LUFS.

    Silence, and clips shorter than a measurement window (0.4 s), are returned unchanged.

    Args:
        wav: Waveform, `[C, T]`.
        sample_rate: Samples per second of `wav`.
        loudness_headroom_db: Distance from full scale, in LUFS.
        loudness_compressor: Apply a hyperbolic tangent.
        energy_floor: RMS below which a clip is silent.
    """
    if wav.shape[-1] < LOUDNESS_WINDOW * sample_rate or wav.square().mean().sqrt() < energy_floor:
        return wav
    loudness = torchaudio.functional.loudness(wav, sample_rate)
    wav = wav * 10 ** ((-loudness_headroom_db - float(loudness)) / 20)
    return wav.tanh() if loudness_compressor else wav


def _clamp(wav: Tensor, limit: float, log_clipping: bool, stem_name: str | None) -> Tensor:
    peak = float(wav.abs().max())
    if log_clipping and peak > limit:
        logger.warning("Clipping %s: its peak of %.2f exceeds %.2f.", stem_name, peak, limit)
    return wav.clamp(-limit, limit)


def normalize_audio(
    wav: Tensor,
    normalize: bool = True,
    strategy: tp.Literal["peak", "clip", "rms", "loudness"] = "peak",
    peak_clip_headroom_db: float = 1,
    rms_headroom_db: float = 18,
    loudness_headroom_db: float = 14,
    loudness_compressor: bool = False,
    log_clipping: bool = False,
    sample_rate: int | None = None,
    stem_name: str | None = None,
) -> Tensor:
    """Normalize the level of a waveform to the range of a file, [-1, 1].

    Args:
        wav: Waveform, `[C, T]`.
        normalize: If `False`, `peak` and `rms` attenuate but do not amplify.
        strategy: `peak`, `rms` and `loudness` scale to a level, `clip` only clips peaks.
        peak_clip_headroom_db: Distance of peaks from full scale (`peak`, `clip`).
        rms_headroom_db: Distance of the RMS of the mono mix from full scale (`rms`).
        loudness_headroom_db: Distance of the loudness from full scale (`loudness`).
        loudness_compressor: Limit peaks with a hyperbolic tangent instead of clipping (`loudness`).
        log_clipping: Warn if samples are clipped.
        sample_rate: Samples per second; required by `loudness`.
        stem_name: Name of the clip in warnings.

    Raises:
        ValueError: The strategy is unknown, or `loudness` has no sample rate.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy={strategy!r} is not supported. Supported: {', '.join(STRATEGIES)}."
        )
    if wav.shape[-1] == 0:
        return wav
    if strategy == "loudness":
        if sample_rate is None:
            raise ValueError("strategy='loudness' requires sample_rate.")
        wav = normalize_loudness(wav, sample_rate, loudness_headroom_db, loudness_compressor)
        return _clamp(wav, 1.0, log_clipping, stem_name)
    limit = 10 ** (-peak_clip_headroom_db / 20)
    if strategy == "clip":
        return wav.clamp(-limit, limit)
    if strategy == "peak":
        gain = limit / max(float(wav.abs().max()), 1e-12)
    else:
        rms = float(wav.mean(dim=0).square().mean().sqrt())
        gain = 10 ** (-rms_headroom_db / 20) / max(rms, 1e-12)
    if normalize or gain < 1:
        wav = wav * gain
    return _clamp(wav, 1.0, log_clipping, stem_name)


def f32_pcm(wav: Tensor) -> Tensor:
    """Convert PCM samples to floats in [-1, 1]; floats are returned unchanged.

    Raises:
        AudioError: The samples are neither floats nor 16 or 32 bit integers.
    """
    if wav.is_floating_point():
        return wav
    if wav.dtype in (torch.int16, torch.int32):
        return wav.float() / (1 << (8 * wav.dtype.itemsize - 1))
    raise AudioError(f"PCM samples must be int16, int32 or float but are {wav.dtype}.")


def i16_pcm(wav: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to 16 bit PCM; 16 bit integers are returned unchanged.

    The scale is 2**15, or 2**15 - 1 for a clip that would overflow.

    Raises:
        AudioError: Samples are integers of another width.
    """
    if not wav.is_floating_point():
        if wav.dtype == torch.int16:
            return wav
        raise AudioError(f"Samples must be int16 or float but are {wav.dtype}.")
    scaled = (wav * 2**15).round()
    if scaled.numel() and scaled.max() >= 2**15:
        scaled = (wav * (2**15 - 1)).round()
    return scaled.clamp(-(2**15), 2**15 - 1).to(torch.int16)
