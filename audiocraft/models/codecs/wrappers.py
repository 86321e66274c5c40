"""Wrappers that give codecs of other packages the interface `CompressionModel`.

Each takes a loaded network; `audiocraft.models.loaders` loads them. Wrapped codecs are frozen.
"""

import math
import typing as tp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...quantization import QuantizedResult
from .base import FixedRateCodec, check_audio, check_codes, check_num_codebooks

try:
    import dac
except ImportError:
    dac = None

if tp.TYPE_CHECKING:
    import encodec
    import transformers


class FrozenCodec(FixedRateCodec):
    """Base of codecs that are not trained.

    Args:
        model: Network of the other package.
        sample_rate: Samples per second.
        frame_rate: Frames per second.
        channels: Audio channels.
        cardinality: Codebook size, V.
        total_codebooks: Number of codebooks of the network; at first, all are in use.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sample_rate: int,
        frame_rate: float,
        channels: int,
        cardinality: int,
        total_codebooks: int,
    ):
        super().__init__(sample_rate, frame_rate, channels)
        self.model: tp.Any = model
        self._cardinality = cardinality
        self._total_codebooks = total_codebooks
        self._num_codebooks = total_codebooks

    @property
    def cardinality(self) -> int:
        return self._cardinality

    @property
    def num_codebooks(self) -> int:
        return self._num_codebooks

    @property
    def total_codebooks(self) -> int:
        return self._total_codebooks

    def set_num_codebooks(self, n: int) -> None:
        self._num_codebooks = check_num_codebooks(n, self.total_codebooks)

    @torch.no_grad()
    def forward(self, x: Tensor) -> QuantizedResult:
        """Encode and decode; the penalty is zero."""
        codes, scale = self.encode(x)
        bits = codes.shape[1] * math.log2(self.cardinality)
        return QuantizedResult(
            x=self.decode(codes, scale)[..., : x.shape[-1]],
            codes=codes,
            bandwidth=torch.tensor(bits * self.frame_rate / 1000, device=x.device),
            penalty=x.new_zeros(()),
        )


def _refuse_windows(seconds: float | None) -> None:
    """Reject EnCodec at 48 kHz, which encodes windows of a second, each with its own scale."""
    if seconds is not None:
        raise ValueError(
            f"This EnCodec encodes windows of {seconds} s with a scale each, which is not "
            "supported. Use facebook/encodec_32khz or facebook/encodec_24khz."
        )


class _FrozenEncodec(FrozenCodec):
    """Decoding, which the EnCodecs of both packages share."""

    @torch.no_grad()
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        audio = self.model.decoder(self.decode_latent(codes))
        return audio if scale is None else audio * scale[:, :, None]

    @torch.no_grad()
    def decode_latent(self, codes: Tensor) -> Tensor:
        check_codes(codes, self)
        return self.model.quantizer.decode(codes.transpose(0, 1))


class HFEncodecCompressionModel(_FrozenEncodec):
    """EnCodec of transformers (`facebook/encodec_32khz`, `facebook/encodec_24khz`).

    Args:
        model: The loaded `transformers.EncodecModel`.

    Raises:
        ValueError: The model encodes windows (`facebook/encodec_48khz`).
    """

    def __init__(self, model: "transformers.EncodecModel"):
        config = model.config
        _refuse_windows(config.chunk_length_s)
        count = model.quantizer.get_num_quantizers_for_bandwidth
        bandwidths = {count(kbps): kbps for kbps in sorted(config.target_bandwidths or [])}
        super().__init__(
            model,
            sample_rate=config.sampling_rate,
            frame_rate=config.sampling_rate / math.prod(config.upsampling_ratios),
            channels=config.audio_channels,
            cardinality=config.codebook_size,
            total_codebooks=min(max(bandwidths), len(model.quantizer.layers)),
        )
        self._bandwidths = bandwidths  # kbps by number of codebooks, ascending

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        check_audio(x, self.channels)
        enough = next(kbps for n, kbps in self._bandwidths.items() if n >= self.num_codebooks)
        codes, scales, _ = self.model.encode(x, bandwidth=enough, return_dict=False)
        return codes[0, :, : self.num_codebooks], scales[0]  # one window


class EncodecPackageCompressionModel(_FrozenEncodec):
    """EnCodec of the `encodec` package (`encodec.EncodecModel.encodec_model_24khz()`).

    Args:
        model: The loaded `encodec.EncodecModel`; its bandwidth determines the number of
            codebooks.

    Raises:
        ValueError: The model encodes windows (its 48 kHz model).
    """

    def __init__(self, model: "encodec.EncodecModel"):
        _refuse_windows(model.segment)
        quantizer = model.quantizer
        super().__init__(
            model,
            sample_rate=model.sample_rate,
            frame_rate=model.sample_rate / int(model.encoder.hop_length),
            channels=model.channels,
            cardinality=quantizer.bins,
            total_codebooks=quantizer.get_num_quantizers_for_bandwidth(
                model.frame_rate, model.bandwidth
            ),
        )

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        check_audio(x, self.channels)
        ((codes, scale),) = self.model.encode(x)  # one window
        return codes[:, : self.num_codebooks], scale


class _FrozenDac(FrozenCodec):
    """Encoding and decoding, which the DACs of both packages share.

    Method: Kumar et al., 2023, https://arxiv.org/abs/2306.06546.
    """

    def __init__(self, model: nn.Module, *, sample_rate: int, hop_length: int, **counts: int):
        frame_rate = sample_rate / hop_length
        super().__init__(
            model, sample_rate=sample_rate, frame_rate=frame_rate, channels=1, **counts
        )
        self.hop_length = hop_length

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        check_audio(x, self.channels)
        return self._codes_of(F.pad(x, (0, -x.shape[-1] % self.hop_length))), None

    def _codes_of(self, x: Tensor) -> Tensor:
        """Encode audio of a whole number of frames."""
        raise NotImplementedError

    @torch.no_grad()
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        wav = self.model.decoder(self.decode_latent(codes))
        # Layers with an odd stride return a few samples less.
        return F.pad(wav, (0, codes.shape[-1] * self.hop_length - wav.shape[-1]))

    @torch.no_grad()
    def decode_latent(self, codes: Tensor) -> Tensor:
        check_codes(codes, self)
        return self.model.quantizer.from_codes(codes)[0]


class HFDacCompressionModel(_FrozenDac):
    """Descript Audio Codec of transformers (`descript/dac_44khz`, `_24khz`, `_16khz`).

    Args:
        model: The loaded `transformers.DacModel`.
    """

    def __init__(self, model: "transformers.DacModel"):
        config = model.config
        super().__init__(
            model,
            sample_rate=config.sampling_rate,
            hop_length=config.hop_length,
            cardinality=config.codebook_size,
            total_codebooks=config.n_codebooks,
        )

    def _codes_of(self, x: Tensor) -> Tensor:
        return self.model.encode(x, self.num_codebooks, return_dict=False)[2]


class DAC(_FrozenDac):
    """Descript Audio Codec, from the optional package `descript-audio-codec`.

    Args:
        model_type: `44khz`, `24khz` or `16khz`; the package downloads the weights.
        model: A loaded `dac.DAC`, instead of the download.

    Raises:
        ImportError: The package is not installed.
    """

    def __init__(self, model_type: str = "44khz", model: tp.Any = None):
        if dac is None:
            raise ImportError(
                f"dac_{model_type} needs an optional package: pip install descript-audio-codec. "
                f"//pretrained/descript/dac_{model_type} is the same codec without it."
            )
        if model is None:
            model = dac.DAC.load(dac.utils.download(model_type=model_type))
        super().__init__(
            model,
            sample_rate=model.sample_rate,
            hop_length=model.hop_length,
            cardinality=model.codebook_size,
            total_codebooks=model.n_codebooks,
        )

    def _codes_of(self, x: Tensor) -> Tensor:
        return self.model.encode(x, self.num_codebooks)[1]
