"""EnCodec and stereo interleaving; also the public import path of all other codecs.

EnCodec is a convolutional encoder and decoder around a residual vector quantizer. Stereo music
models use a mono codec on each channel and interleave the codes.

Method: Défossez et al., 2022, https://arxiv.org/abs/2210.13438; stereo by interleaving: Copet et
al., 2023, https://arxiv.org/abs/2306.05284.
"""

import torch
from torch import Tensor, nn

from ..modules.frozen import evaluation_mode
from ..quantization import QuantizedResult, ResidualVectorQuantizer, draw_num_codebooks
from .codecs.base import CompressionModel, FixedRateCodec, check_audio, check_codes
from .codecs.wrappers import (
    DAC,
    EncodecPackageCompressionModel,
    HFDacCompressionModel,
    HFEncodecCompressionModel,
)

__all__ = [
    "DAC",
    "CompressionModel",
    "EncodecModel",
    "EncodecPackageCompressionModel",
    "HFDacCompressionModel",
    "HFEncodecCompressionModel",
    "InterleaveStereoCompressionModel",
]


class EncodecModel(FixedRateCodec):
    """EnCodec, trainable, with the state-dict keys of released checkpoints.

    Args:
        encoder: Maps audio `[B, C, T]` to a latent `[B, D, F]`.
        decoder: Maps a latent `[B, D, F]` to audio.
        quantizer: Quantizes the latent.
        frame_rate: Codec frames per second.
        sample_rate: Samples per second.
        channels: Audio channels, C.
        causal: Whether encoder and decoder are causal.
        renormalize: Normalize each clip to an RMS of 1 and return its scale.

    Raises:
        ValueError: `causal` and `renormalize` are both true.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: ResidualVectorQuantizer,
        frame_rate: float,
        sample_rate: int,
        channels: int,
        causal: bool = False,
        renormalize: bool = False,
    ):
        super().__init__(sample_rate, frame_rate, channels)
        if causal and renormalize:
            raise ValueError(
                "renormalize=True needs the RMS of the whole clip, which is not causal. Set one of "
                "`causal` and `renormalize` to False."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.causal = causal
        self.renormalize = renormalize

    @property
    def cardinality(self) -> int:
        return self.quantizer.bins

    @property
    def num_codebooks(self) -> int:
        return self.quantizer.num_codebooks

    @property
    def total_codebooks(self) -> int:
        return self.quantizer.total_codebooks

    def set_num_codebooks(self, n: int) -> None:
        self.quantizer.set_num_codebooks(n)

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> QuantizedResult:
        """Encode and decode, cut to the length of the input.

        Args:
            x: Audio, `[B, C, T]`.
            rng: In training, draws the quantizer dropout (`None`: no dropout) and the samples for
                codebook initialisation and revival.
        """
        check_audio(x, self.channels)
        normalized, scale = self._normalize(x)
        num_codebooks = self.num_codebooks
        if self.training and self.quantizer.q_dropout and rng is not None:
            num_codebooks = draw_num_codebooks(num_codebooks, rng)
        result = self.quantizer(
            self.encoder(normalized), self.frame_rate, num_codebooks=num_codebooks, rng=rng
        )
        audio = _scaled(self.decoder(result.x), scale)
        return result._replace(x=audio[..., : x.shape[-1]])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        check_audio(x, self.channels)
        normalized, scale = self._normalize(x)
        with evaluation_mode(self.encoder):  # spectral norm updates buffers in training mode
            return self.quantizer.encode(self.encoder(normalized)), scale

    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        return _scaled(self.decoder(self.decode_latent(codes)), scale)

    def decode_latent(self, codes: Tensor) -> Tensor:
        check_codes(codes, self)
        return self.quantizer.decode(codes)

    def _normalize(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalize clips to an RMS of 1; also return the scale that undoes it, `[B, 1]`."""
        if not self.renormalize:
            return x, None
        rms = x.mean(dim=1).square().mean(dim=1, keepdim=True).sqrt()
        scale = rms + 1e-8
        return x / scale[:, :, None], scale


def _scaled(audio: Tensor, scale: Tensor | None) -> Tensor:
    return audio if scale is None else audio * scale[:, :, None]


class InterleaveStereoCompressionModel(CompressionModel):
    """Stereo codec: a mono codec on each channel, with interleaved codes.

    Either the codebooks of left and right alternate, which doubles `num_codebooks`, or their
    frames, which doubles `frame_rate`. As in released checkpoints, `total_codebooks` and
    `set_num_codebooks` count the codebooks of one channel. A scale is `[B, 2]`, one per channel.

    Args:
        model: Mono codec.
        per_timestep: Interleave frames instead of codebooks.

    Raises:
        ValueError: The codec is not mono.
    """

    def __init__(self, model: CompressionModel, per_timestep: bool = False):
        super().__init__()
        if model.channels != 1:
            raise ValueError(
                f"Stereo interleaving needs a mono codec, but this one has {model.channels} "
                "channels. Give a mono codec or set interleave_stereo_codebooks.use=false."
            )
        self.model = model
        self.per_timestep = per_timestep

    @property
    def sample_rate(self) -> int:
        return self.model.sample_rate

    @property
    def frame_rate(self) -> float:
        return self.model.frame_rate * (2 if self.per_timestep else 1)

    @property
    def channels(self) -> int:
        return 2

    @property
    def cardinality(self) -> int:
        return self.model.cardinality

    @property
    def num_codebooks(self) -> int:
        return self.model.num_codebooks * (1 if self.per_timestep else 2)

    @property
    def total_codebooks(self) -> int:
        return self.model.total_codebooks

    def set_num_codebooks(self, n: int) -> None:
        self.model.set_num_codebooks(n)

    def forward(self, x: Tensor) -> QuantizedResult:
        result = self.model(self._mono(x))
        return QuantizedResult(
            x=result.x.view(-1, 2, result.x.shape[-1]),
            codes=self._interleave(result.codes),
            bandwidth=2 * result.bandwidth,
            penalty=result.penalty,
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        codes, scale = self.model.encode(self._mono(x))
        return self._interleave(codes), None if scale is None else scale.view(-1, 2)

    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        mono_scale = None if scale is None else scale.reshape(-1, 1)
        audio = self.model.decode(self._separate(codes), mono_scale)
        return audio.view(-1, 2, audio.shape[-1])

    def decode_latent(self, codes: Tensor) -> Tensor:
        """Look up the latents of left and right, concatenated: `[B, 2 * D, F]`."""
        latent = self.model.decode_latent(self._separate(codes))
        return latent.reshape(-1, 2 * latent.shape[1], latent.shape[2])

    def _mono(self, x: Tensor) -> Tensor:
        """Move channels to the batch: `[B, 2, T]` to `[B * 2, 1, T]`."""
        check_audio(x, channels=2)
        return x.reshape(-1, 1, x.shape[-1])

    def _interleave(self, codes: Tensor) -> Tensor:
        """Interleave `[B * 2, K, F]` to `[B, K * 2, F]`, or `[B, K, F * 2]` per time step."""
        _, K, F = codes.shape
        left_right = codes.view(-1, 2, K, F)
        if self.per_timestep:
            return left_right.permute(0, 2, 3, 1).reshape(-1, K, F * 2)
        return left_right.transpose(1, 2).reshape(-1, K * 2, F)

    def _separate(self, codes: Tensor) -> Tensor:
        """Invert `_interleave`."""
        if codes.dim() != 3 or codes.shape[2 if self.per_timestep else 1] % 2:
            raise ValueError(
                "Interleaved codes must be [B, K, F] with an even number of "
                f"{'frames' if self.per_timestep else 'codebooks'}, but are {list(codes.shape)}."
            )
        B, K, F = codes.shape
        if self.per_timestep:
            left_right = codes.view(B, K, F // 2, 2).permute(0, 3, 1, 2)
        else:
            left_right = codes.view(B, K // 2, 2, F).transpose(1, 2)
        return left_right.flatten(0, 1)
