"""Codecs: between waveforms and codes.

Every codec stands behind `CompressionModel`, so that nothing above knows which one it is.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..quantization import QuantizedResult


class CompressionModel(ABC, nn.Module):
    """What the language model asks of a codec: codes from audio, and audio from codes."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Samples per second of the waveform."""

    @property
    @abstractmethod
    def frame_rate(self) -> float:
        """Codes of one codebook per second."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Audio channels that it reads and writes."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Entries of each codebook."""

    @property
    @abstractmethod
    def num_codebooks(self) -> int:
        """How many codebooks are in use."""

    @property
    @abstractmethod
    def total_codebooks(self) -> int:
        """How many codebooks there are."""

    @abstractmethod
    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on.

        Raises:
            ValueError: `n` is not among those that the codec can use.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> QuantizedResult:
        """Audio `[B, C, T]` through codes and back; `result.x` is `[B, C, T]` again."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Audio `[B, C, T]` to codes `[B, K, F]` and, if the codec renormalizes, scale `[B, 1]`.

        Raises:
            ValueError: Another number of channels or dimensions, or no sample at all.
        """

    @abstractmethod
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        """Codes `[B, K, F]`, with the scale from `encode`, to audio `[B, C, T]`.

        T is a whole number of frames, so it may exceed the length that was encoded.
        """

    @abstractmethod
    def decode_latent(self, codes: Tensor) -> Tensor:
        """Codes `[B, K, F]` to the quantized latent `[B, D, F]`, without the decoder."""
