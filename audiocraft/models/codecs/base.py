"""Codec interface: waveforms to discrete codes and back.

All other layers depend on this interface only; scripts import it from `audiocraft.models.encodec`.
"""

import importlib
import typing as tp
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...quantization import QuantizedResult

WINDOW = 30.0  # seconds; chunked decoding starts chunks at multiples of it


class CompressionModel(ABC, nn.Module):
    """Abstract base of codecs.

    Weights stay in float32: `half()` and the like move them but do not convert them, since
    quantization compares distances.
    """

    @staticmethod
    def get_pretrained(name: str, device: torch.device | str = "cpu") -> "CompressionModel":
        """Load a pretrained codec, frozen; see `audiocraft.models.loaders.load_compression_model`.

        Args:
            name: Hub id (`facebook/encodec_32khz`), file, folder, `//pretrained/NAME`,
                `//sig/SIG` or `//bundled/NAME`; also `debug_compression_model`.
            device: Device of the codec.

        Raises:
            CheckpointError: There is no such codec.
        """
        loaders = importlib.import_module("audiocraft.models.loaders")  # which imports this file
        return loaders.load_compression_model(name, device)

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Samples per second of the waveform."""

    @property
    @abstractmethod
    def frame_rate(self) -> float:
        """Codec frames per second."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Audio channels, C."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Codebook size, V."""

    @property
    @abstractmethod
    def num_codebooks(self) -> int:
        """Number of codebooks in use, K."""

    @property
    @abstractmethod
    def total_codebooks(self) -> int:
        """Number of codebooks that the codec has."""

    @abstractmethod
    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on.

        Raises:
            ValueError: `n` is not in 1 … `total_codebooks`.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> QuantizedResult:
        """Encode and decode audio `[B, C, T]`; `result.x` is `[B, C, T]`."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode audio `[B, C, T]`.

        Returns:
            Codes `[B, K, F]` and, if the codec renormalizes, the scale `[B, 1]`.

        Raises:
            ValueError: The audio has other dimensions or channels, or no samples.
        """

    @abstractmethod
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        """Decode codes `[B, K, F]`, with the scale from `encode`, to audio `[B, C, T]`.

        T is a whole number of frames, so it may exceed the length that was encoded. Decoding may
        start at any multiple of `even_frame_count(WINDOW, frame_rate)`: past a short transient,
        the audio equals that of decoding from the beginning.

        Raises:
            ValueError: The codes have other dimensions, or one is not in 0 … `cardinality` - 1.
        """

    @abstractmethod
    def decode_latent(self, codes: Tensor) -> Tensor:
        """Look up the quantized latent `[B, D, F]` of codes `[B, K, F]`."""

    def _apply(self, fn: tp.Callable[[Tensor], Tensor], recurse: bool = True) -> tp.Any:
        """Apply `fn` (of `to`, `cuda`, `half` …) to all tensors, which stay in float32."""
        return super()._apply(lambda tensor: _in_float32(tensor, fn(tensor)), recurse)


def _in_float32(tensor: Tensor, converted: Tensor) -> Tensor:
    """Return `converted`, or `tensor` on the same device where that has been rounded to 16 bits."""
    if converted.dtype not in (torch.float16, torch.bfloat16):
        return converted
    return (converted if tensor.is_meta else tensor).to(converted.device, torch.float32)


class FixedRateCodec(CompressionModel):
    """Base of codecs whose rates and channels are fixed at construction."""

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
    """Return the largest even number of frames in `seconds`; stereo codes may come in pairs."""
    return int(seconds * frame_rate) // 2 * 2


def check_audio(x: Tensor, channels: int) -> None:
    """Raise a `ValueError` unless `x` is `[B, channels, T]` with T of at least 1."""
    if x.dim() != 3 or x.shape[1] != channels or x.shape[2] == 0:
        raise ValueError(
            f"The codec expects audio [B, {channels}, T] with T of at least 1 but got "
            f"{list(x.shape)}. `audiocraft.data.audio_utils.convert_audio` changes channels."
        )


def check_num_codebooks(n: int, total: int) -> int:
    """Return `n`; raise a `ValueError` unless it is in 1 … `total`."""
    if not 1 <= n <= total:
        raise ValueError(f"num_codebooks={n} but the codec can use 1 to {total}.")
    return n


def check_codes(codes: Tensor, codec: CompressionModel) -> None:
    """Raise a `ValueError` unless codes are `[B, K, F]` integers that the codec has entries for."""
    if codes.dim() != 3:
        raise ValueError(f"Codes must be [B, K, F] but have the shape {list(codes.shape)}.")
    if codes.is_floating_point():
        raise ValueError(f"Codes must be integers but are {codes.dtype}.")
    check_num_codebooks(codes.shape[1], codec.total_codebooks)
    low, high = (int(value) for value in codes.aminmax()) if codes.numel() else (0, 0)
    if low < 0 or high >= codec.cardinality:
        raise ValueError(
            f"Codes must be in 0 … {codec.cardinality - 1} but range from {low} to {high}. Decode "
            "codes with the codec that encoded them."
        )
