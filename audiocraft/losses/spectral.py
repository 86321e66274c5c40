"""Spectral losses between two waveforms: mel, multi-scale mel, multi-resolution STFT.

All of them take an estimate and a target, `[B, C, T]`, and return a scalar. Sound that is slightly
out of phase sounds the same; distances between magnitudes, unlike distances between samples, do not
depend on it.

Methods: Arik et al., 2018, https://arxiv.org/abs/1808.06719 (spectral convergence); Yamamoto et
al., 2020, https://arxiv.org/abs/1910.11480 (several resolutions); Gritsenko et al., 2020,
https://arxiv.org/abs/2008.01160 and Défossez et al., 2022, https://arxiv.org/abs/2210.13438
(several mel scales).
"""

import math
import typing as tp
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from ..modules.conv import pad1d

EPSILON = torch.finfo(torch.float32).eps
POWER_FLOOR = 1e-7  # of the multi-resolution STFT, below which magnitudes do not differ


class MelSpectrogram(nn.Module):
    """Power mel spectrogram of waveforms `[B, C, T]`: `[B, C, n_mels, frames]`.

    Frames are centred as if the waveform were reflected at its ends; the last one is filled with
    zeros.

    Args:
        sample_rate: Of the waveforms, in Hz.
        n_fft: Samples of a transform.
        hop_length: Samples between two frames.
        win_length: Samples of the Hann window; `None` is `n_fft`.
        n_mels: Number of bands.
        f_min: Lowest frequency, in Hz.
        f_max: Highest frequency, in Hz; `None` is half the sample rate.
        normalized: Divide by the energy of the window.

    Raises:
        ValueError: The window is longer than the transform, or a frequency is out of range.
    """

    window: Tensor  # [win_length]
    filters: Tensor  # [n_mels, n_fft // 2 + 1]

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        normalized: bool = False,
    ):
        super().__init__()
        win_length = n_fft if win_length is None else win_length
        f_max = sample_rate / 2 if f_max is None else f_max
        if not 1 <= win_length <= n_fft or not 1 <= hop_length <= n_fft:
            raise ValueError(
                f"win_length is {win_length} and hop_length {hop_length}; both must lie between 1 "
                f"and n_fft, which is {n_fft}."
            )
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise ValueError(
                f"f_min is {f_min} Hz and f_max {f_max} Hz; they must rise from 0 to at most half "
                f"of sample_rate, {sample_rate / 2} Hz."
            )
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.normalized = normalized
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        with warnings.catch_warnings():  # bands narrower than a bin are empty in short transforms
            warnings.filterwarnings("ignore", "At least one mel filterbank")
            filters = melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, sample_rate)
        self.register_buffer("filters", filters.t().contiguous(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        B, C, _ = wav.shape
        side = (self.n_fft - self.hop_length) // 2
        wav = pad1d(wav.float().flatten(0, 1), (side, side), "reflect")
        wav = F.pad(wav, (0, self._missing(wav.shape[-1])))
        power = self._power(wav)  # [B * C, bins, frames]
        return (self.filters @ power).view(B, C, len(self.filters), -1)

    def _missing(self, length: int) -> int:
        """Samples up to the end of the last frame."""
        if length <= self.n_fft:
            return self.n_fft - length
        return -(length - self.n_fft) % self.hop_length

    def _power(self, wav: Tensor) -> Tensor:
        spectrum = torch.stft(
            wav,
            self.n_fft,
            self.hop_length,
            len(self.window),
            window=self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return power / self.window.square().sum() if self.normalized else power


class MelSpectrogramL1Loss(nn.Module):
    """Mean absolute difference of log10 mel spectrograms.

    Args:
        sample_rate, n_fft, hop_length, win_length, n_mels, f_min, f_max, normalized: See
            `MelSpectrogram`.
        floor_level: Power added before the logarithm.
    """

    def __init__(
        self,
        sample_rate: int,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int | None = 1024,
        n_mels: int = 64,
        f_min: float = 64.0,
        f_max: float | None = None,
        normalized: bool = False,
        floor_level: float = 1e-5,
    ):
        super().__init__()
        self.floor_level = floor_level
        self.mel = MelSpectrogram(
            sample_rate, n_fft, hop_length, win_length, n_mels, f_min, f_max, normalized
        )

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        check_same_shape(estimate, target)
        one, other = ((self.mel(wav) + self.floor_level).log10() for wav in (estimate, target))
        return F.l1_loss(one, other)


class MultiScaleMelSpectrogramLoss(nn.Module):
    """Mel distances at window lengths that are powers of two.

    Each scale contributes the mean absolute difference of powers and, weighted by alpha, the mean
    squared difference of their log10.

    Args:
        sample_rate: Of the waveforms, in Hz.
        range_start: The shortest window has 2 to this power samples.
        range_end: The longest window has 2 to this power, minus one, samples; exclusive.
        n_mels, f_min, f_max: See `MelSpectrogram`.
        normalized: Divide by the energy of the window, and the sum by its weights.
        alphas: Use alpha = sqrt(window length - 1), which weighs long windows more; else 1.
        floor_level: Power added before the logarithm.

    Raises:
        ValueError: There is no scale between `range_start` and `range_end`.
    """

    def __init__(
        self,
        sample_rate: int,
        range_start: int = 6,
        range_end: int = 11,
        n_mels: int = 64,
        f_min: float = 64.0,
        f_max: float | None = None,
        normalized: bool = True,
        alphas: bool = False,
        floor_level: float = 1e-5,
    ):
        super().__init__()
        if not 2 <= range_start < range_end:
            raise ValueError(
                f"range_start is {range_start} and range_end {range_end}: windows of 2 to the "
                "power range_start … range_end - 1 samples need 2 <= range_start < range_end."
            )
        self.floor_level = floor_level
        sizes = [2**power for power in range(range_start, range_end)]
        self.alphas = [math.sqrt(size - 1) if alphas else 1.0 for size in sizes]
        self.total = sum(1 + alpha for alpha in self.alphas) if normalized else 1.0
        options: dict[str, tp.Any] = {"n_mels": n_mels, "f_min": f_min, "f_max": f_max}
        self.mels = nn.ModuleList(
            MelSpectrogram(sample_rate, size, size // 4, normalized=normalized, **options)
            for size in sizes
        )

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        check_same_shape(estimate, target)
        loss = estimate.new_zeros((), dtype=torch.float32)
        for mel, alpha in zip(self.mels, self.alphas):
            one, other = mel(estimate), mel(target)
            loss = loss + F.l1_loss(one, other)
            logs = ((power + self.floor_level).log10() for power in (one, other))
            loss = loss + alpha * F.mse_loss(*logs)
        return loss / self.total


class MRSTFTLoss(nn.Module):
    """Multi-resolution STFT loss: spectral convergence and log magnitudes.

    Args:
        n_ffts: Samples of each transform.
        hop_lengths: Samples between two frames, for each transform.
        win_lengths: Samples of the Hann window, for each transform.
        factor_sc: Weight of the spectral convergence: the norm of the difference of magnitudes,
            relative to the norm of the target's.
        factor_mag: Weight of the mean absolute difference of log magnitudes.
        normalized: Divide each spectrum by the square root of `n_fft`.

    Raises:
        ValueError: The three lists differ in length, or a window is longer than its transform.
    """

    def __init__(
        self,
        n_ffts: tp.Sequence[int] = (1024, 2048, 512),
        hop_lengths: tp.Sequence[int] = (120, 240, 50),
        win_lengths: tp.Sequence[int] = (600, 1200, 240),
        factor_sc: float = 0.5,
        factor_mag: float = 0.5,
        normalized: bool = False,
    ):
        super().__init__()
        check_resolutions(n_ffts, hop_lengths, win_lengths)
        self.resolutions = list(zip(n_ffts, hop_lengths, win_lengths))
        self.factor_sc = factor_sc
        self.factor_mag = factor_mag
        self.normalized = normalized
        for number, win_length in enumerate(win_lengths):
            window = torch.hann_window(win_length)
            self.register_buffer(f"window_{number}", window, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        check_same_shape(estimate, target)
        convergence = magnitude = estimate.new_zeros((), dtype=torch.float32)
        for number in range(len(self.resolutions)):
            one, other = (self._magnitudes(wav, number) for wav in (estimate, target))
            norms = torch.linalg.vector_norm(other - one), torch.linalg.vector_norm(other)
            convergence = convergence + norms[0] / (norms[1] + EPSILON)
            magnitude = magnitude + F.l1_loss((one + EPSILON).log(), (other + EPSILON).log())
        loss = self.factor_sc * convergence + self.factor_mag * magnitude
        return loss / len(self.resolutions)

    def _magnitudes(self, wav: Tensor, number: int) -> Tensor:
        """Magnitudes `[B * C, bins, frames]` at one resolution, with a floor."""
        n_fft, hop_length, win_length = self.resolutions[number]
        wav = pad1d(wav.float().flatten(0, 1), (n_fft // 2, n_fft // 2), "reflect")
        spectrum = torch.stft(
            wav,
            n_fft,
            hop_length,
            win_length,
            window=self.get_buffer(f"window_{number}"),
            center=False,
            normalized=self.normalized,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return power.clamp(min=POWER_FLOOR).sqrt()


def check_resolutions(
    n_ffts: tp.Sequence[int], hop_lengths: tp.Sequence[int], win_lengths: tp.Sequence[int]
) -> None:
    """Raise a `ValueError` unless every transform has one hop and one window that fits."""
    if not len(n_ffts) == len(hop_lengths) == len(win_lengths) or not n_ffts:
        raise ValueError(
            f"n_ffts, hop_lengths and win_lengths have {len(n_ffts)}, {len(hop_lengths)} and "
            f"{len(win_lengths)} entries; they must have the same number, at least one."
        )
    for n_fft, win_length in zip(n_ffts, win_lengths):
        if win_length > n_fft:
            raise ValueError(f"win_lengths has {win_length}, longer than its n_fft {n_fft}.")


def check_same_shape(estimate: Tensor, target: Tensor) -> None:
    """Raise a `ValueError` unless both are `[B, C, T]` of the same shape, not empty."""
    if estimate.shape != target.shape or estimate.dim() != 3 or estimate.numel() == 0:
        raise ValueError(
            "The loss compares two waveforms [B, C, T] of the same shape, not "
            f"{list(estimate.shape)} and {list(target.shape)}."
        )
