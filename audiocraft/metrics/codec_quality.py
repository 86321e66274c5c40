"""Codec quality: distances of spectrum, pitch, rhythm and level between original and decoded audio.

Decoded audio never equals the original sample by sample, so these metrics compare perceptible
features. None of them needs a network.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signal.chroma import ChromaExtractor
from ..signal.stft import mel_filters

WINDOWS = (512, 1024, 2048)  # samples; short windows resolve rhythm, long ones pitch
MIN_SAMPLES = 2 * WINDOWS[-1]  # of waveforms that can be compared
NUM_MELS = 64
FLOOR = 1e-4  # amplitude of silence: 80 dB below full scale
ONSET_FLOOR = 1e-3  # amplitude below which onsets are ignored: 60 dB below full scale
QUIET = 0.05  # of the amplitude of the loudest frame; pitch is ignored in quieter frames
LEVEL_WINDOW = 0.1  # seconds


def _spectrogram(wav: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return amplitudes `[B, n_fft // 2 + 1, frames]` of `[B, 1, T]`; 1 is a full-scale sine."""
    window = torch.hann_window(n_fft, device=wav.device)
    spectrum = torch.stft(
        wav[:, 0],
        n_fft,
        hop_length,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.abs() / (window.sum() / 2)


def _log_mels(
    wav: Tensor, sample_rate: int, n_fft: int, hop_length: int, floor: float = FLOOR
) -> Tensor:
    filters = mel_filters(sample_rate, n_fft, NUM_MELS).to(wav)
    return (filters @ _spectrogram(wav, n_fft, hop_length)).clamp(min=floor).log()


def log_mel_distance(original: Tensor, decoded: Tensor, sample_rate: int) -> Tensor:
    """Return the mean absolute difference of log-mel spectrograms, over several window lengths.

    Args:
        original: Waveforms, `[B, 1, T]`.
        decoded: Waveforms of the same shape.
        sample_rate: Sample rate of both, in Hz.

    Returns:
        `[B]`, in nepers (1 neper is 8.7 dB); 0 for equal waveforms.
    """
    distances = []
    for n_fft in WINDOWS:
        one, other = (_log_mels(wav, sample_rate, n_fft, n_fft // 4) for wav in (original, decoded))
        distances.append((one - other).abs().mean(dim=(1, 2)))
    return torch.stack(distances).mean(dim=0)


def chroma_agreement(original: Tensor, decoded: Tensor, sample_rate: int) -> Tensor:
    """Return the correlation of the twelve pitch classes, averaged over frames that are not quiet.

    Returns:
        `[B]`, 1 for equal pitches, about 0 for unrelated ones.
    """
    extract = ChromaExtractor(sample_rate).to(original.device)
    one, other = extract(original), extract(decoded)  # [B, frames, 12]
    one = one - one.mean(dim=-1, keepdim=True)
    other = other - other.mean(dim=-1, keepdim=True)
    level = _spectrogram(original, extract.win_length, extract.hop_length).mean(dim=1)
    is_loud = level > QUIET * level.amax(dim=1, keepdim=True)
    agreement = F.cosine_similarity(one, other, dim=-1) * is_loud
    return agreement.sum(dim=1) / is_loud.sum(dim=1).clamp(min=1)


def onset_agreement(original: Tensor, decoded: Tensor, sample_rate: int) -> Tensor:
    """Return the correlation of onset strength over time, `[B]`: 1 for equal rhythms."""

    def onset_strength(wav: Tensor) -> Tensor:
        mels = _log_mels(wav, sample_rate, 512, sample_rate // 100, ONSET_FLOOR)
        rise = mels.diff(dim=-1).clamp(min=0).mean(dim=1)
        return rise - rise.mean(dim=1, keepdim=True)

    return F.cosine_similarity(onset_strength(original), onset_strength(decoded), dim=1)


def level_error_db(original: Tensor, decoded: Tensor, sample_rate: int) -> Tensor:
    """Return the mean absolute difference of the level in windows of 0.1 s, in decibels, `[B]`."""

    def level(wav: Tensor) -> Tensor:
        size = int(LEVEL_WINDOW * sample_rate)
        power = wav[:, 0].unfold(-1, size, size).square().mean(dim=-1)
        return 10 * torch.log10(power + FLOOR**2)

    return (level(original) - level(decoded)).abs().mean(dim=1)


METRICS = {
    "log_mel_distance": log_mel_distance,
    "chroma_agreement": chroma_agreement,
    "onset_agreement": onset_agreement,
    "level_error_db": level_error_db,
}


def measure(original: Tensor, decoded: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Compute all metrics of this file, by name, each `[B]`.

    Raises:
        ValueError: The waveforms `[B, 1, T]` differ in shape or are shorter than a window.
    """
    if original.shape != decoded.shape or original.shape[1] != 1:
        raise ValueError(
            f"The waveforms have the shapes {list(original.shape)} and {list(decoded.shape)}. "
            "Provide mono waveforms [B, 1, T] of the same shape."
        )
    if original.shape[-1] < MIN_SAMPLES:
        raise ValueError(
            f"{original.shape[-1]} samples are too few; at least {MIN_SAMPLES} are needed."
        )
    return {name: function(original, decoded, sample_rate) for name, function in METRICS.items()}
