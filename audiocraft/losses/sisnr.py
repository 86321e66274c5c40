"""Scale-invariant signal-to-noise ratio, as a loss: lower is better.

Method: Le Roux et al., 2019, https://arxiv.org/abs/1811.02508.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spectral import EPSILON, check_same_shape


class SISNR(nn.Module):
    """Negative scale-invariant signal-to-noise ratio in dB, averaged over windows and channels.

    Args:
        sample_rate: Of the waveforms, in Hz.
        segment: Length of a window, in seconds; `None` is the whole waveform. The last windows are
            filled with zeros.
        overlap: Share of a window that the next one repeats, from 0 to below 1.
        epsilon: Added to mean powers, so that silence gives a finite loss.

    Raises:
        ValueError: `overlap` or `segment` is out of range.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        segment: float | None = 20,
        overlap: float = 0.5,
        epsilon: float = EPSILON,
    ):
        super().__init__()
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap is {overlap}, but must be at least 0 and below 1.")
        if segment is not None and int(segment * sample_rate) < 1:
            raise ValueError(f"segment is {segment} s, less than one sample.")
        self.sample_rate = sample_rate
        self.segment = segment
        self.overlap = overlap
        self.epsilon = epsilon

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Estimate and target, `[B, C, T]`, to a scalar."""
        check_same_shape(estimate, target)
        estimate, target = (self._windows(wav.float()) for wav in (estimate, target))
        scale = (estimate * target).mean(dim=-1, keepdim=True)
        scale = scale / (target.square().mean(dim=-1, keepdim=True) + self.epsilon)
        signal = scale * target
        noise = estimate - signal
        powers = [part.square().mean(dim=-1) + self.epsilon for part in (signal, noise)]
        return -10 * torch.log10(powers[0] / powers[1]).mean()

    def _windows(self, wav: Tensor) -> Tensor:
        """Waveforms `[B, C, T]` to windows without their mean, `[B, C, windows, samples]`."""
        length = wav.shape[-1]
        size = length if self.segment is None else int(self.segment * self.sample_rate)
        stride = size if self.segment is None else max(1, int(size * (1 - self.overlap)))
        count = math.ceil(length / stride)
        padded = F.pad(wav, (0, max(0, (count - 1) * stride + size - length)))
        windows = padded.unfold(-1, size, stride)
        return windows - windows.mean(dim=-1, keepdim=True)
