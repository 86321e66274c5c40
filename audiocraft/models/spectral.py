"""A codec without a network: log-mel frames, quantized, and turned back by iterated phase.

Nothing in it is trained by gradients. Its codebooks are k-means centres of log-mel frames, fitted
in minutes (`fit_spectral.py`), and its decoder is mathematics: non-negative least squares from
mel bands to a spectrum, then the fast Griffin-Lim algorithm for the phase. It keeps pitch, rhythm
and timbre where a neural codec trained as briefly keeps none of them.

Method: Perraudin et al., 2013, "A fast Griffin-Lim algorithm" (the phase); Lee and Seung, 2001,
"Algorithms for non-negative matrix factorization" (the updates of the least squares).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..quantization import QuantizedResult, ResidualVectorQuantizer
from ..quantization.steady import steady_codes
from .encodec import CompressionModel

MOMENTUM = 0.99  # of the phase iterations; the value that Perraudin et al. recommend
NNLS_ITERATIONS = 10
SMALL = 1e-9


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters `[n_mels, n_fft // 2 + 1]` from 0 Hz to half the rate; rows sum to 1."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = filters.clamp(min=0)
    return (filters / filters.sum(dim=1, keepdim=True).clamp(min=SMALL)).float()


class SpectralTokenizer(CompressionModel):
    """Codes of log-mel frames, decoded without a network.

    Each item of a batch is decoded by itself, from a phase that does not depend on chance: equal
    codes give equal audio.

    Args:
        sample_rate: Samples per second.
        n_fft: Window of a frame, in samples.
        hop_length: Samples between two frames.
        n_mels: Mel bands of a frame, the width of the latent.
        floor: Amplitude that counts as silence; a full-scale sine has 1.
        n_q: Number of codebooks.
        bins: Entries of each codebook.
        phase_iterations: Rounds of Griffin-Lim; more are slower and clearer.
        change_cost: What a change of code has to save, in squared distance of log-mels; see
            `quantization/steady.py`. 0 takes the nearest entries.
    """

    filters: Tensor
    inverse: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 128,
        floor: float = 1e-4,
        n_q: int = 4,
        bins: int = 1024,
        phase_iterations: int = 32,
        change_cost: float = 0.0,
    ):
        super().__init__()
        self._sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.floor = floor
        self.phase_iterations = phase_iterations
        self.change_cost = change_cost
        self.quantizer = ResidualVectorQuantizer(n_mels, n_q, bins=bins)
        filters = mel_filters(sample_rate, n_fft, n_mels)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("inverse", torch.linalg.pinv(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    @property
    def frame_rate(self) -> float:
        return self._sample_rate / self.hop_length

    @property
    def channels(self) -> int:
        return 1

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

    def forward(self, x: Tensor) -> QuantizedResult:
        """Audio `[B, 1, T]` through codes and back; learns the codebooks in training mode."""
        result = self.quantizer(self.analyse(x), self.frame_rate)
        if not self.training:
            codes, _ = self.encode(x)
            result = result._replace(x=self.decode_latent(codes), codes=codes)
        return result._replace(x=self.synthesize(result.x)[..., : x.shape[-1]])

    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        residual = self.analyse(x).transpose(1, 2)  # [B, F, D]
        codes = []
        for book in self.quantizer.codebooks[: self.num_codebooks]:
            codes.append(steady_codes(residual, book.embed, self.change_cost))
            residual = residual - book.decode(codes[-1])
        return torch.stack(codes, dim=1), None

    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        return self.synthesize(self.decode_latent(codes))

    def decode_latent(self, codes: Tensor) -> Tensor:
        return self.quantizer.decode(codes)

    def analyse(self, x: Tensor) -> Tensor:
        """Audio `[B, 1, T]` to log-mel frames `[B, D, F]`, `F = ceil(T / hop_length)`.

        Raises:
            ValueError: The audio has more channels, other dimensions, or no sample.
        """
        if x.dim() != 3 or x.shape[1] != 1 or x.shape[2] == 0:
            raise ValueError(
                f"This tokenizer reads audio [B, 1, T] with T of at least 1, not {list(x.shape)}. "
                "Mix the channels down to one first."
            )
        num_frames = -(-x.shape[-1] // self.hop_length)
        wave = F.pad(x[:, 0].float(), (0, num_frames * self.hop_length - x.shape[-1]))
        magnitude = self._spectrum(wave).abs() / (self.window.sum() / 2)
        return (self.filters @ magnitude + self.floor).log()

    def synthesize(self, latent: Tensor) -> Tensor:
        """Log-mel frames `[B, D, F]` to audio `[B, 1, F · hop_length]`."""
        mels = (latent.float().exp() - self.floor).clamp(min=0) * (self.window.sum() / 2)
        if latent.shape[-1] == 0:
            return mels.new_zeros(len(mels), 1, 0)
        waves = [self._griffin_lim(self._unmel(item)) for item in mels]  # each by itself
        return torch.stack(waves)[:, None]

    def _unmel(self, mels: Tensor) -> Tensor:
        """The non-negative spectrum `[N, F]` whose mel bands come closest to `[D, F]`."""
        spectrum = (self.inverse @ mels).clamp(min=SMALL)
        for _ in range(NNLS_ITERATIONS):
            explained = self.filters.t() @ (self.filters @ spectrum)
            spectrum = spectrum * (self.filters.t() @ mels) / (explained + SMALL)
        return spectrum

    def _griffin_lim(self, magnitude: Tensor) -> Tensor:
        """A waveform `[F · hop]` whose frames have the magnitudes `[N, F]`."""
        rng = torch.Generator().manual_seed(0)
        angles = torch.rand(magnitude.t().shape, generator=rng).t().to(magnitude) * 2 * math.pi
        phase = torch.polar(torch.ones_like(magnitude), angles)
        previous = torch.zeros_like(phase)
        for _ in range(self.phase_iterations):
            rebuilt = self._spectrum(self._wave(magnitude * phase))
            phase = rebuilt - MOMENTUM / (1 + MOMENTUM) * previous
            phase = phase / phase.abs().clamp(min=SMALL)
            previous = rebuilt
        return self._wave(magnitude * phase)

    def _spectrum(self, wave: Tensor) -> Tensor:
        """Waveform `[..., F · hop]` to spectrum `[..., N, F]`, frame i around sample (i + ½) hop."""
        side = (self.n_fft - self.hop_length) // 2
        padded = F.pad(wave, (side, self.n_fft - self.hop_length - side))
        return torch.stft(
            padded, self.n_fft, self.hop_length, window=self.window, center=False,
            return_complex=True,
        )  # fmt: skip

    def _wave(self, spectrum: Tensor) -> Tensor:
        """Spectrum `[N, F]` to waveform `[F · hop]`: overlap-add, weighted by the window."""
        frames = torch.fft.irfft(spectrum, n=self.n_fft, dim=0) * self.window[:, None]
        weights = self.window.square()[:, None].expand_as(frames)
        side = (self.n_fft - self.hop_length) // 2
        length = spectrum.shape[-1] * self.hop_length
        both = torch.stack([frames, weights])  # [2, n_fft, F]
        total = F.fold(
            both, (1, length + self.n_fft - self.hop_length), (1, self.n_fft),
            stride=(1, self.hop_length),
        ).flatten(1)  # fmt: skip
        wave, weight = total[:, side : side + length]
        return wave / weight.clamp(min=SMALL)
