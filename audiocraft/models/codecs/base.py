"""What a codec is, whoever made it: between waveforms and codes.

Nothing above knows which codec it talks to; `audiocraft.models.encodec` is the public home.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...quantization import QuantizedResult

WINDOW = 30.0  # seconds; long pieces are decoded from multiples of it, see `long_decoding.py`


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
            ValueError: `n` is not in 1 … `total_codebooks`.
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

        T is a whole number of frames, so it may exceed the length that was encoded. Codes from
        `even_frame_count(WINDOW, …)` on, or a multiple of it, give what they give with all before
        them, but for the first moments.
        """

    @abstractmethod
    def decode_latent(self, codes: Tensor) -> Tensor:
        """Codes `[B, K, F]` to the quantized latent `[B, D, F]`, without the decoder."""


class FixedRateCodec(CompressionModel):
    """A codec whose rates and channels are plain values given at construction."""

    def __init__(self, sample_rate: int, frame_rate: float, channels: int):
        super().__init__()
        self._sample_rate = sample_rate
        self._frame_rate = frame_rate
        self._channels = channels

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    @property
    def frame_rate(self) -> float:
        return self._frame_rate

    @property
    def channels(self) -> int:
        return self._channels


def even_frame_count(seconds: float, frame_rate: float) -> int:
    """How many frames fit, an even number: interleaved channels come in pairs."""
    return int(seconds * frame_rate) // 2 * 2


def check_audio(x: Tensor, channels: int) -> None:
    """Raise a `ValueError` unless `x` is `[B, channels, T]` with at least one sample."""
    if x.dim() != 3 or x.shape[1] != channels or x.shape[2] == 0:
        raise ValueError(
            f"The codec reads audio [B, {channels}, T] with T of at least 1 but was given "
            f"{list(x.shape)}. `audiocraft.data.audio_utils.convert_audio` changes channels."
        )


def check_num_codebooks(n: int, total: int) -> int:
    """`n`, or a `ValueError` unless it is in 1 … `total`."""
    if not 1 <= n <= total:
        raise ValueError(f"{n} codebooks were asked for, but the codec can use 1 to {total}.")
    return n


def check_codes(codes: Tensor, total: int) -> None:
    """Raise a `ValueError` unless the codes are `[B, K, F]` with K in 1 … `total`."""
    if codes.dim() != 3:
        raise ValueError(f"Codes must be [B, K, F] but have the shape {list(codes.shape)}.")
    check_num_codebooks(codes.shape[1], total)
