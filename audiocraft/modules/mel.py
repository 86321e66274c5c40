"""Mel bands: frequencies grouped as the ear does, narrow below and wide above."""

import math

import torch
from torch import Tensor


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters from 0 Hz to half the sample rate.

    Returns:
        `[n_mels, n_fft // 2 + 1]`; a row sums to 1, so that a band is an average of bins. Where
        `n_fft` is too short for a band, no bin falls into it and its row is 0.
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = filters.clamp(min=0)
    return (filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-9)).float()
