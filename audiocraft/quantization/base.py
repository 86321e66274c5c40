"""Quantizers: abstract base, result, and the identity."""

import typing as tp
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

FLOAT_BITS = 32


class QuantizedResult(tp.NamedTuple):
    """Output of a quantizer, or of a codec around one."""

    x: Tensor  # [B, D, F] quantized latent; [B, C, T] audio when a codec returns it
    codes: Tensor  # [B, K, F] long
    bandwidth: Tensor  # scalar, kb/s per item
    penalty: Tensor  # scalar, to be added to the loss; 0 outside training


class BaseQuantizer(nn.Module, ABC):
    """Base of all quantizers of latents `[B, D, F]`."""

    @abstractmethod
    def forward(self, x: Tensor, frame_rate: float) -> QuantizedResult:
        """Quantize a latent `[B, D, F]` of `frame_rate` frames per second."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Latent `[B, D, F]` to codes `[B, K, F]`."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, K, F]` to a latent `[B, D, F]`."""

    @property
    @abstractmethod
    def total_codebooks(self) -> int:
        """Number of codebooks."""

    @property
    @abstractmethod
    def num_codebooks(self) -> int:
        """Number of codebooks in use."""

    @abstractmethod
    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on."""


class DummyQuantizer(BaseQuantizer):
    """Identity with one codebook, whose codes are the latent itself, `[B, 1, D, F]`."""

    def forward(self, x: Tensor, frame_rate: float) -> QuantizedResult:
        bandwidth = x[0].numel() / x.shape[-1] * FLOAT_BITS * frame_rate / 1000
        return QuantizedResult(
            x=x,
            codes=self.encode(x),
            bandwidth=torch.full((), bandwidth, device=x.device),
            penalty=x.new_zeros(()),
        )

    def encode(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1)

    def decode(self, codes: Tensor) -> Tensor:
        return codes.squeeze(1)

    @property
    def total_codebooks(self) -> int:
        return 1

    @property
    def num_codebooks(self) -> int:
        return 1

    def set_num_codebooks(self, n: int) -> None:
        """Accept only 1.

        Raises:
            ValueError: `n` is another number.
        """
        if n != 1:
            raise ValueError(f"The number of codebooks is {n}, but a DummyQuantizer has 1.")
