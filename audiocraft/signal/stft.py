"""Short-time Fourier transform (STFT), phase reconstruction and mel filters.

Frame i covers `n_fft` samples centred on the samples `i · hop … (i + 1) · hop`, so that F frames
are exactly F · hop samples.

Method: phase reconstruction: Perraudin, Balazs and Søndergaard, 2013, "A fast Griffin-Lim
algorithm".
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM = 0.99  # of the phase iterations; recommended by Perraudin et al.
SMALL = 1e-9


class STFT(nn.Module):
    """Short-time Fourier transform with a Hann window, and its inverse.

    Args:
        n_fft: Samples of the window.
        hop_length: Samples between two frames, at most half of `n_fft`.

    Raises:
        ValueError: `hop_length` is more than half of `n_fft`.
    """

    window: Tensor  # [n_fft]

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if not 1 <= hop_length <= n_fft // 2:
            raise ValueError(
                f"hop_length is {hop_length} but must be 1 to {n_fft // 2}, half of n_fft: the "
                "inverse needs overlapping frames."
            )
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.left = (n_fft - hop_length) // 2  # samples of the first frame before its hop
        self.right = n_fft - hop_length - self.left
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Waveform `[..., F · hop_length]` to complex spectrum `[..., n_fft // 2 + 1, F]`."""
        padded = F.pad(wave, (self.left, self.right))
        return torch.stft(
            padded,
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Waveform `[F · hop_length]` with the closest spectrum to `[n_fft // 2 + 1, F]`."""
        frames = torch.fft.irfft(spectrum, n=self.n_fft, dim=0) * self.window[:, None]
        weights = self.window.square()[:, None].expand_as(frames)
        return self._overlap_add(frames) / self._overlap_add(weights).clamp(min=SMALL)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Sum the overlapping frames `[n_fft, F]` to `[F · hop_length]`."""
        length = frames.shape[-1] * self.hop_length
        padded = (1, length + self.left + self.right)
        kernel, stride = (1, self.n_fft), (1, self.hop_length)
        wave = F.fold(frames[None], padded, kernel, stride=stride).flatten()
        return wave[self.left : self.left + length]


def griffin_lim(
    stft: STFT, magnitude: Tensor, iterations: int, period: int | None = None
) -> Tensor:
    """Reconstruct a waveform from magnitudes (fast Griffin-Lim).

    The initial phases are pseudo-random and always the same. A frame of the result depends on its
    initial phase and on neighbouring frames only, so with a `period`, a part of a spectrum that
    starts at a multiple of it gives the same waveform as the whole, except near its start.

    Args:
        stft: The transform.
        magnitude: Magnitudes, `[n_fft // 2 + 1, F]`.
        iterations: Number of iterations.
        period: Frames after which the initial phases repeat; `None`: never.

    Returns:
        Waveform, `[F · hop_length]`.
    """
    rng = torch.Generator().manual_seed(0)
    bins, frames = magnitude.shape
    cycles = torch.rand((min(frames, period or frames), bins), generator=rng).t().to(magnitude)
    cycles = cycles.repeat(1, math.ceil(frames / cycles.shape[1]))[:, :frames]
    phase = torch.polar(torch.ones_like(magnitude), 2 * math.pi * cycles)
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        rebuilt = stft(stft.inverse(magnitude * phase))
        phase = rebuilt - MOMENTUM / (1 + MOMENTUM) * previous
        phase = phase / phase.abs().clamp(min=SMALL)
        previous = rebuilt
    return stft.inverse(magnitude * phase)


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular mel filters (HTK) from 0 Hz to half the sample rate, in double precision.

    Returns:
        `[n_mels, n_fft // 2 + 1]`; a row sums to 1, so that a band is an average of bins. The row
        of a band without any bin is 0.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = filters.clamp(min=0)
    return (filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-9)).float()
