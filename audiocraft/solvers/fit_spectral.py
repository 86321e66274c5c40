"""Fitting of the spectral tokenizer, and its evaluation on held-out music.

Each step has a closed form or is k-means: principal components of the loudness; residual codebooks
one after the other, then refined jointly, both for change-penalised codes; least squares from
quantized frames back to loudness.
"""

import copy
import typing as tp
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..data.audio_dataset import AudioDataset
from ..errors import ConfigError
from ..metrics.codec_quality import measure
from ..models.codecs.spectral import SpectralTokenizer
from ..quantization.kmeans import fit_residual_codebooks
from ..quantization.viterbi import change_penalised_codes

BATCH_SIZE = 16  # excerpts


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Amount of data and number of iterations.

    Raises:
        ConfigError: A value is not positive.
    """

    hours: float = 5.0  # of excerpts, drawn equally from each manifest
    excerpt: float = 5.0  # duration of an excerpt, in seconds
    iterations: int = 10  # of k-means, per codebook
    rounds: int = 8  # of joint refinement of all codebooks
    ridge: float = 1e-4  # regularization of least squares, relative to the mean variance
    measured: int = 64  # excerpts of each evaluated manifest
    seed: int = 0

    def __post_init__(self):
        for name in ("hours", "excerpt", "iterations", "measured"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 but is {getattr(self, name)}.")


def draw_excerpts(
    manifests: tp.Sequence[str | Path], num: int, seconds: float, sample_rate: int, seed: int
) -> tp.Iterator[Tensor]:
    """Draw excerpts equally from each manifest and, within it, from each file.

    Yields:
        Waveforms `[B, 1, T]`.
    """
    for manifest in manifests:
        share = -(-num // len(manifests))
        dataset = AudioDataset.from_meta(
            manifest,
            segment_duration=seconds,
            num_samples=share,
            sample_rate=sample_rate,
            channels=1,
            sample_on_duration=False,
            sample_on_weight=False,
            permutation_on_files=True,
            min_audio_duration=seconds,
            min_segment_ratio=1.0,
            shuffle_seed=seed,
        )
        for start in tqdm(range(0, share, BATCH_SIZE), desc=f"Reading {manifest}"):
            indices = range(start, min(start + BATCH_SIZE, share))
            yield torch.stack([tp.cast(Tensor, dataset[i]) for i in indices])


def principal_components(rows: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Mean `[N]` and first `num` principal components `[num, N]` of rows `[M, N]`."""
    mean = rows.mean(dim=0)
    directions = torch.linalg.eigh(torch.cov((rows - mean).t()))[1]
    return mean, directions.flip(1)[:, :num].t().contiguous()


def least_squares(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Ridge regression: weights `[I, O]` that map inputs `[N, I]` to targets `[N, O]`."""
    gram = inputs.t() @ inputs
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, inputs.t() @ targets)


@torch.no_grad()
def fit_tokenizer(
    tokenizer: SpectralTokenizer, excerpts: tp.Iterable[Tensor], options: FitOptions
) -> None:
    """Fit the buffers of a tokenizer, in place.

    Args:
        tokenizer: A new tokenizer, on the CPU.
        excerpts: Batches of waveforms, `[B, 1, T]`, all of the same T.
        options: Number of iterations.

    Raises:
        ConfigError: The excerpts have fewer frames than a codebook has entries.
    """
    loudness = torch.cat([tokenizer.loudness(wav) for wav in excerpts])  # [E, n_mels, F]
    rows = loudness.transpose(1, 2).flatten(0, 1)
    if len(rows) < tokenizer.cardinality:
        raise ConfigError(
            f"{len(rows)} frames are too few for codebooks of {tokenizer.cardinality} entries: use "
            f"more than {options.hours} hours of music."
        )
    mean, components = principal_components(rows, len(tokenizer.components))
    tokenizer.mean.copy_(mean)
    tokenizer.components.copy_(components)
    _fit_codebooks(tokenizer, tokenizer.latent(loudness), options)
    quantized = [
        tokenizer.decode_latent(tokenizer.quantize(tokenizer.latent(part)))
        for part in loudness.split(BATCH_SIZE)
    ]
    _fit_estimate(tokenizer, torch.cat(quantized), loudness, options.ridge)


def _fit_codebooks(tokenizer: SpectralTokenizer, latent: Tensor, options: FitOptions) -> None:
    """Fit the codebooks to principal components `[E, D, F]`, with change-penalised codes."""
    E, D, F = latent.shape

    def assign(rows: Tensor, entries: Tensor) -> Tensor:
        sequences = rows.view(E, F, D).split(BATCH_SIZE)
        codes = [change_penalised_codes(part, entries, tokenizer.change_cost) for part in sequences]
        return torch.cat(codes).flatten()

    codebooks = fit_residual_codebooks(
        latent.transpose(1, 2).reshape(E * F, D),
        tokenizer.total_codebooks,
        tokenizer.cardinality,
        iterations=options.iterations,
        rounds=options.rounds,
        rng=torch.Generator().manual_seed(options.seed),
        assign=assign,
        progress=True,
    )
    for book, entries in zip(tokenizer.quantizer.codebooks, codebooks):
        book.embed.copy_(entries)
        book.embed_avg.copy_(entries)
        book.cluster_size.fill_(1)
        book.inited.fill_(1)


def _fit_estimate(
    tokenizer: SpectralTokenizer, quantized: Tensor, loudness: Tensor, ridge: float
) -> None:
    """Fit the map from quantized frames `[E, D, F]`, with context, to loudness `[E, n_mels, F]`.

    Averages of a power underestimate amplitudes, so bands are scaled to their mean amplitude.
    """
    width = 2 * tokenizer.context + 1
    windows = quantized.unfold(-1, width, 1)  # [E, D, F - width + 1, width]
    inputs = windows.permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    inner = loudness[..., tokenizer.context : loudness.shape[-1] - tokenizer.context]
    targets = inner.transpose(1, 2).flatten(0, 1)
    weights = least_squares(inputs, targets, ridge)
    power = 1 / tokenizer.power
    estimated = (inputs @ weights).clamp(min=0).pow(power).mean(dim=0)
    gain = targets.pow(power).mean(dim=0) / estimated.clamp(min=1e-12)
    weights = weights * gain.clamp(0.5, 2).pow(tokenizer.power)
    tokenizer.estimate.copy_(weights[:-1].t().view_as(tokenizer.estimate))
    tokenizer.estimate_bias.copy_(weights[-1])


@torch.no_grad()
def evaluate_tokenizer(
    tokenizer: SpectralTokenizer, excerpts: tp.Iterable[Tensor]
) -> dict[str, dict[str, float]]:
    """Measure the quality of reconstructions.

    Args:
        tokenizer: A fitted tokenizer.
        excerpts: Batches of waveforms, `[B, 1, T]`.

    Returns:
        Mean of each measure for each number of codebooks, without quantization (the upper bound)
        and with random codebooks (the lower bound).
    """
    untrained = with_random_codebooks(tokenizer)
    measures: dict[str, list[dict[str, Tensor]]] = {}
    for wav in excerpts:
        codes, _ = tokenizer.encode(wav)
        decoded = {f"{n} codebooks": tokenizer.decode(codes[:, :n]) for n in _counts(tokenizer)}
        frames = tokenizer.loudness(wav)
        decoded["not quantized"] = torch.stack([tokenizer.render(f) for f in frames])[:, None]
        decoded["random codebooks"] = untrained.decode(untrained.encode(wav)[0])
        for name, estimate in decoded.items():
            estimate = estimate[..., : wav.shape[-1]]
            measures.setdefault(name, []).append(measure(wav, estimate, tokenizer.sample_rate))
    return {
        name: {key: round(float(torch.cat([p[key] for p in parts]).mean()), 4) for key in parts[0]}
        for name, parts in measures.items()
    }


def _counts(tokenizer: SpectralTokenizer) -> range:
    return range(1, tokenizer.total_codebooks + 1)


def with_random_codebooks(tokenizer: SpectralTokenizer, seed: int = 0) -> SpectralTokenizer:
    """Copy a tokenizer with random codebook entries of the same power."""
    untrained = copy.deepcopy(tokenizer)
    rng = torch.Generator().manual_seed(seed)
    for book in untrained.quantizer.codebooks:
        noise = torch.randn(book.embed.shape, generator=rng)
        book.embed.copy_(book.embed.square().mean().sqrt() * noise)
    return untrained


def save_tokenizer(tokenizer: SpectralTokenizer, folder: Path) -> None:
    """Write `model.safetensors` and `config.yaml`, which `load_compression_model` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "compression_model": "spectral",
        "sample_rate": tokenizer.sample_rate,
        "channels": tokenizer.channels,
        "spectral": tokenizer.constructor_arguments(),
    }
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    save_file(tokenizer.state_dict(), folder / "model.safetensors")


def load_tokenizer(folder: Path) -> SpectralTokenizer:
    """Load a tokenizer that `save_tokenizer` wrote."""
    config = tp.cast(tp.Any, OmegaConf.load(folder / "config.yaml"))
    tokenizer = SpectralTokenizer(**config.spectral)
    tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
    return tokenizer.eval()


def excerpts_to_measure(
    manifest: str, tokenizer: SpectralTokenizer, options: FitOptions
) -> tp.Iterator[Tensor]:
    """Draw the excerpts on which a tokenizer is evaluated; the same at each call."""
    rate, seed = tokenizer.sample_rate, options.seed + 1
    return draw_excerpts([manifest], options.measured, options.excerpt, rate, seed)
