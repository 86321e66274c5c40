"""Losses between waveforms, and the balancer that sets their shares of the gradient."""

from .balancer import Balancer
from .sisnr import SISNR
from .spectral import MelSpectrogramL1Loss, MRSTFTLoss, MultiScaleMelSpectrogramLoss

__all__ = [
    "SISNR",
    "Balancer",
    "MRSTFTLoss",
    "MelSpectrogramL1Loss",
    "MultiScaleMelSpectrogramLoss",
]
