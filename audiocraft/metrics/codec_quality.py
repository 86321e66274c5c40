"""How much of a piece survives a codec: spectrum, pitch, rhythm and level, one number per item.

A waveform rebuilt from codes never equals the original sample by sample, so all of these compare
what is heard. None of them needs a network.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..signal.chroma import ChromaExtractor
from ..signal.stft import mel_filters

WINDOWS = (512, 1024, 2048)  # samples; short ones see rhythm, long ones pitch
NUM_MELS = 64
FLOOR = 1e-4  # amplitude that counts as silence: 80 dB below full scale
ONSET_FLOOR = 1e-3  # below this nothing is heard to begin: 60 dB
QUIET = 0.05  # frames with a smaller share of the loudest frame's amplitude have no pitch to keep
LEVEL_WINDOW = 0.1  # seconds


def _spectrogram(wav: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Amplitudes `[B, n_fft // 2 + 1, frames]` of `[B, 1, T]`; a full-scale sine has 1."""
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


def log_mel_distance(original: Tensor, rebuilt: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of log-mel spectrograms, over several window lengths.

    Args:
        original: Waveforms, `[B, 1, T]`.
        rebuilt: Waveforms of the same shape.
        sample_rate: Of both.

    Returns:
        `[B]`, in nepers (1 neper is 8.7 dB); 0 where nothing differs.
    """
    distances = []
    for n_fft in WINDOWS:
        one, other = (_log_mels(wav, sample_rate, n_fft, n_fft // 4) for wav in (original, rebuilt))
        distances.append((one - other).abs().mean(dim=(1, 2)))
    return torch.stack(distances).mean(dim=0)


def chroma_agreement(original: Tensor, rebuilt: Tensor, sample_rate: int) -> Tensor:
    """Correlation of the twelve pitch classes, averaged over frames that are not quiet.

    Returns:
        `[B]`, 1 where the same pitches sound and about 0 where pitch is lost.
    """
    extract = ChromaExtractor(sample_rate).to(original.device)
    one, other = extract(original), extract(rebuilt)  # [B, frames, 12]
    one = one - one.mean(dim=-1, keepdim=True)
    other = other - other.mean(dim=-1, keepdim=True)
    level = _spectrogram(original, extract.win_length, extract.hop_length).mean(dim=1)
    audible = level > QUIET * level.amax(dim=1, keepdim=True)
    agreement = F.cosine_similarity(one, other, dim=-1) * audible
    return agreement.sum(dim=1) / audible.sum(dim=1).clamp(min=1)


def onset_agreement(original: Tensor, rebuilt: Tensor, sample_rate: int) -> Tensor:
    """Correlation over time of how much louder the bands get: 1 where the rhythm is the same."""

    def rises(wav: Tensor) -> Tensor:
        mels = _log_mels(wav, sample_rate, 512, sample_rate // 100, ONSET_FLOOR)
        rise = mels.diff(dim=-1).clamp(min=0).mean(dim=1)
        return rise - rise.mean(dim=1, keepdim=True)

    return F.cosine_similarity(rises(original), rises(rebuilt), dim=1)


def level_error_db(original: Tensor, rebuilt: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of the level in windows of 0.1 s, in decibels, `[B]`."""

    def level(wav: Tensor) -> Tensor:
        size = int(LEVEL_WINDOW * sample_rate)
        power = wav[:, 0].unfold(-1, size, size).square().mean(dim=-1)
        return 10 * torch.log10(power + FLOOR**2)

    return (level(original) - level(rebuilt)).abs().mean(dim=1)


MEASURES = {
    "log_mel_distance": log_mel_distance,
    "chroma_agreement": chroma_agreement,
    "onset_agreement": onset_agreement,
    "level_error_db": level_error_db,
}


def measure(original: Tensor, rebuilt: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """All measures of this file by name, each `[B]`.

    Raises:
        ValueError: The waveforms `[B, 1, T]` differ in shape or are shorter than a window.
    """
    if original.shape != rebuilt.shape or original.shape[1] != 1:
        raise ValueError(
            "Two mono waveforms [B, 1, T] of the same shape can be compared, not "
            f"{list(original.shape)} and {list(rebuilt.shape)}."
        )
    if original.shape[-1] < WINDOWS[-1] * 2:
        raise ValueError(
            f"{original.shape[-1]} samples are too few to compare: give {WINDOWS[-1] * 2}."
        )
    return {name: function(original, rebuilt, sample_rate) for name, function in MEASURES.items()}
