"""Spectral codec: quantized mel spectrogram frames, decoded by Griffin-Lim; no neural network.

A frame is the loudness in mel bands, a power of their amplitudes. Its principal components are
quantized by k-means codebooks. Decoding estimates the loudness by a least-squares filter over
neighbouring quantized frames, the magnitudes by multiplicative updates, and the phase iteratively.
Fitting takes minutes (`solvers/fit_spectral.py`) and preserves pitch, rhythm and timbre, which a
neural codec needs much longer training for.

Method: Stevens, 1957, "On the psychophysical law" (loudness as a power of amplitude); Lee and
Seung, 2001, "Algorithms for non-negative matrix factorization" (the updates from bands to
spectrum); phase: `signal/stft.py`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...quantization import QuantizedResult, ResidualVectorQuantizer
from ...quantization.viterbi import change_penalised_codes
from ...signal.stft import STFT, griffin_lim, mel_filters
from .base import (
    WINDOW,
    FixedRateCodec,
    check_audio,
    check_codes,
    check_num_codebooks,
    even_frame_count,
)

SPECTRUM_UPDATES = 5
SMALL = 1e-9


class SpectralTokenizer(FixedRateCodec):
    """Spectral codec, mono.

    Decoding is deterministic, and independent for each item of a batch. The buffers of a new
    instance are placeholders: `fit_spectral.fit_tokenizer` or a state dict fills them.

    Args:
        sample_rate: Samples per second.
        n_fft: Window length, in samples.
        hop_length: Samples between the starts of two frames.
        n_mels: Number of mel bands.
        power: Exponent from amplitude to loudness; less gives quiet bands more weight.
        dimension: Number of principal components, D, the width of the latent.
        context: Frames on either side that the decoding filter covers.
        n_q: Number of codebooks.
        bins: Codebook size, V.
        phase_iterations: Griffin-Lim iterations; more are slower and sound clearer.
        change_cost: Penalty on a change of code from one frame to the next, as a squared
            distance, see `quantization/viterbi.py`; 0 selects the nearest entries.

    Raises:
        ValueError: `dimension` is not in 1 … `n_mels`.
    """

    mean: Tensor  # [n_mels]
    components: Tensor  # [dimension, n_mels], orthonormal rows
    estimate: Tensor  # [n_mels, dimension, 2 context + 1], a convolution over frames
    estimate_bias: Tensor  # [n_mels]
    filters: Tensor  # [n_mels, n_fft // 2 + 1]
    inverse_filters: Tensor  # [n_fft // 2 + 1, n_mels]

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 160,
        power: float = 0.3,
        dimension: int = 80,
        context: int = 1,
        n_q: int = 4,
        bins: int = 1024,
        phase_iterations: int = 32,
        change_cost: float = 0.05,
    ):
        super().__init__(sample_rate, sample_rate / hop_length, channels=1)
        if not 1 <= dimension <= n_mels:
            raise ValueError(f"dimension={dimension} must be in 1 … n_mels={n_mels}.")
        self.hop_length = hop_length
        self.power = power
        self.context = context
        self.phase_iterations = phase_iterations
        self.change_cost = change_cost
        self.stft = STFT(n_fft, hop_length)
        self.quantizer = ResidualVectorQuantizer(dimension, n_q, bins=bins)
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("components", torch.eye(dimension, n_mels))
        self.register_buffer("estimate", torch.zeros(n_mels, dimension, 2 * context + 1))
        self.register_buffer("estimate_bias", torch.zeros(n_mels))
        filters = mel_filters(sample_rate, n_fft, n_mels)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("inverse_filters", torch.linalg.pinv(filters), persistent=False)

    def constructor_arguments(self) -> dict[str, int | float]:
        """Return the keyword arguments that this tokenizer was built with."""
        return {
            "sample_rate": self.sample_rate,
            "n_fft": self.stft.n_fft,
            "hop_length": self.hop_length,
            "n_mels": len(self.mean),
            "power": self.power,
            "dimension": len(self.components),
            "context": self.context,
            "n_q": self.total_codebooks,
            "bins": self.cardinality,
            "phase_iterations": self.phase_iterations,
            "change_cost": self.change_cost,
        }

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
        self.quantizer.set_num_codebooks(check_num_codebooks(n, self.total_codebooks))

    def forward(self, x: Tensor) -> QuantizedResult:
        result = self.quantizer(self.latent(self.loudness(x)), self.frame_rate)
        if not self.training:
            codes, _ = self.encode(x)
            result = result._replace(x=self.decode_latent(codes), codes=codes)
        return result._replace(x=self.synthesize(result.x)[..., : x.shape[-1]])

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        return self.quantize(self.latent(self.loudness(x))), None

    def quantize(self, latent: Tensor) -> Tensor:
        """Quantize latents `[B, D, F]` to codes `[B, K, F]`, with a penalty on changes of code."""
        residual = latent.transpose(1, 2)
        codes: list[Tensor] = []
        for book in self.quantizer.codebooks[: self.num_codebooks]:
            codes.append(change_penalised_codes(residual, book.embed, self.change_cost))
            residual = residual - book.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        return self.synthesize(self.decode_latent(codes))

    def decode_latent(self, codes: Tensor) -> Tensor:
        check_codes(codes, self)
        return self.quantizer.decode(codes)

    def loudness(self, x: Tensor) -> Tensor:
        """Compute the loudness in mel bands, `[B, n_mels, F]`, F = ceil(T / hop).

        Args:
            x: Audio, `[B, 1, T]`.

        Raises:
            ValueError: The audio has other dimensions or channels, or no samples.
        """
        check_audio(x, self.channels)
        wave = F.pad(x[:, 0].float(), (0, -x.shape[-1] % self.hop_length))
        amplitude = self.stft(wave).abs() / (self.stft.window.sum() / 2)  # full-scale sine: 1
        return (self.filters @ amplitude).pow(self.power)

    def latent(self, loudness: Tensor) -> Tensor:
        """Project loudness `[B, n_mels, F]` on the principal components, `[B, D, F]`."""
        return self.components @ (loudness - self.mean[:, None])

    def synthesize(self, latent: Tensor) -> Tensor:
        """Decode quantized latents `[B, D, F]` to audio `[B, 1, F · hop_length]`."""
        if latent.shape[-1] == 0:
            return latent.new_zeros(len(latent), 1, 0)
        waves = [self.render(self.estimated_loudness(item)) for item in latent.float()]
        return torch.stack(waves)[:, None]

    def estimated_loudness(self, latent: Tensor) -> Tensor:
        """Estimate the loudness in mel bands, `[n_mels, F]`, from quantized latents `[D, F]`."""
        padded = F.pad(latent[None], (self.context, self.context), mode="replicate")
        return F.conv1d(padded, self.estimate, self.estimate_bias)[0]

    def render(self, loudness: Tensor) -> Tensor:
        """Synthesize a waveform `[F · hop_length]` from loudness in mel bands `[n_mels, F]`."""
        amplitude = loudness.clamp(min=0).pow(1 / self.power)
        magnitude = self.spectrum(amplitude) * (self.stft.window.sum() / 2)
        period = even_frame_count(WINDOW, self.frame_rate)
        return griffin_lim(self.stft, magnitude, self.phase_iterations, period)

    def spectrum(self, bands: Tensor) -> Tensor:
        """Estimate magnitudes `[N, F]` from the amplitudes of mel bands `[n_mels, F]`."""
        magnitude = (self.inverse_filters @ bands).clamp(min=SMALL)
        spread = self.filters.t()
        for _ in range(SPECTRUM_UPDATES):
            explained = spread @ (self.filters @ magnitude)
            magnitude = magnitude * (spread @ bands) / (explained + SMALL)
        return magnitude
