"""Fits a spectral tokenizer to music, and measures it on music that it never saw.

    python -m audiocraft fit-tokenizer MANIFEST … OUT --measure MANIFEST …

Each step has a closed form or is k-means: principal components of the loudness, one codebook after
the other on what is left, a few rounds in which all of them give way to each other (all of it for
the steady codes that will be used), least squares from quantized frames back to loudness.
"""

import argparse
import copy
import json
import time
import typing as tp
from dataclasses import asdict, dataclass, fields
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

BATCH = 16  # excerpts that are analysed or measured at a time


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much music, and how long."""

    hours: float = 5.0  # of excerpts, in equal parts from every manifest
    excerpt: float = 5.0  # seconds
    iterations: int = 10  # of k-means, per codebook
    rounds: int = 8  # of refining all codebooks together
    ridge: float = 1e-4  # of the least squares, relative to the mean variance
    measured: int = 64  # excerpts of every manifest that is measured
    seed: int = 0

    def __post_init__(self):
        for name in ("hours", "excerpt", "iterations", "measured"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 but is {getattr(self, name)}.")


def draw_excerpts(
    manifests: tp.Sequence[str | Path], num: int, seconds: float, sample_rate: int, seed: int
) -> tp.Iterator[Tensor]:
    """Draw excerpts, equally many from every manifest and, in it, from every file.

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
        for start in tqdm(range(0, share, BATCH), desc=f"Reading {manifest}"):
            indices = range(start, min(start + BATCH, share))
            yield torch.stack([tp.cast(Tensor, dataset[i]) for i in indices])


def principal_components(rows: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Mean `[N]` and the `num` directions of greatest variance `[num, N]` of `[M, N]`."""
    mean = rows.mean(dim=0)
    directions = torch.linalg.eigh(torch.cov((rows - mean).t()))[1]
    return mean, directions.flip(1)[:, :num].t().contiguous()


def least_squares(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """The map `[I, O]` that takes inputs `[N, I]` closest to targets `[N, O]`."""
    gram = inputs.t() @ inputs
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, inputs.t() @ targets)


@torch.no_grad()
def fit_tokenizer(
    tokenizer: SpectralTokenizer, excerpts: tp.Iterable[Tensor], recipe: Recipe
) -> None:
    """Fill the tokenizer's buffers.

    Args:
        tokenizer: A new one, on the CPU.
        excerpts: Batches of waveforms `[B, 1, T]`, all of the same T.
        recipe: How long.

    Raises:
        ConfigError: The excerpts have fewer frames than a codebook has entries.
    """
    loudness = torch.cat([tokenizer.loudness(wav) for wav in excerpts])  # [E, n_mels, F]
    rows = loudness.transpose(1, 2).flatten(0, 1)
    if len(rows) < tokenizer.cardinality:
        raise ConfigError(
            f"{len(rows)} frames cannot fill codebooks of {tokenizer.cardinality} entries: "
            f"give more than {recipe.hours} hours of music."
        )
    mean, components = principal_components(rows, len(tokenizer.components))
    tokenizer.mean.copy_(mean)
    tokenizer.components.copy_(components)
    _fit_codebooks(tokenizer, tokenizer.latent(loudness), recipe)
    quantized = [
        tokenizer.decode_latent(tokenizer.quantize(tokenizer.latent(part)))
        for part in loudness.split(BATCH)
    ]
    _fit_estimate(tokenizer, torch.cat(quantized), loudness, recipe.ridge)


def _fit_codebooks(tokenizer: SpectralTokenizer, latent: Tensor, recipe: Recipe) -> None:
    """Fit the quantizer from principal components `[E, D, F]`, for the codes it will choose."""
    E, D, F = latent.shape

    def assign(rows: Tensor, entries: Tensor) -> Tensor:
        sequences = rows.view(E, F, D).split(BATCH)
        codes = [change_penalised_codes(part, entries, tokenizer.change_cost) for part in sequences]
        return torch.cat(codes).flatten()

    codebooks = fit_residual_codebooks(
        latent.transpose(1, 2).reshape(E * F, D),
        tokenizer.total_codebooks,
        tokenizer.cardinality,
        iterations=recipe.iterations,
        rounds=recipe.rounds,
        rng=torch.Generator().manual_seed(recipe.seed),
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
    """From quantized frames with their neighbours `[E, D, F]` to loudness `[E, n_mels, F]`.

    Averages of a power understate amplitudes, so the bands are scaled to keep their mean amplitude.
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
    """Measure what survives, with as many codebooks as there are and with fewer.

    Args:
        tokenizer: A fitted one.
        excerpts: Batches of waveforms `[B, 1, T]`.

    Returns:
        The mean of every measure, for each number of codebooks, for frames that are not quantized
        (the best that any codebooks could do), and for codebooks drawn at random.
    """
    untrained = with_random_codebooks(tokenizer)
    found: dict[str, list[dict[str, Tensor]]] = {}
    for wav in excerpts:
        codes, _ = tokenizer.encode(wav)
        rebuilt = {f"{n} codebooks": tokenizer.decode(codes[:, :n]) for n in _counts(tokenizer)}
        frames = tokenizer.loudness(wav)
        rebuilt["not quantized"] = torch.stack([tokenizer.render(f) for f in frames])[:, None]
        rebuilt["random codebooks"] = untrained.decode(untrained.encode(wav)[0])
        for name, other in rebuilt.items():
            other = other[..., : wav.shape[-1]]
            found.setdefault(name, []).append(measure(wav, other, tokenizer.sample_rate))
    return {
        name: {key: round(float(torch.cat([p[key] for p in parts]).mean()), 4) for key in parts[0]}
        for name, parts in found.items()
    }


def _counts(tokenizer: SpectralTokenizer) -> range:
    return range(1, tokenizer.total_codebooks + 1)


def with_random_codebooks(tokenizer: SpectralTokenizer, seed: int = 0) -> SpectralTokenizer:
    """A copy whose entries are noise, in each codebook as loud as its own are."""
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
        "spectral": tokenizer.arguments(),
    }
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    save_file(tokenizer.state_dict(), folder / "model.safetensors")


def load_tokenizer(folder: Path) -> SpectralTokenizer:
    """Read what `save_tokenizer` wrote."""
    config = tp.cast(tp.Any, OmegaConf.load(folder / "config.yaml"))
    tokenizer = SpectralTokenizer(**config.spectral)
    tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
    return tokenizer.eval()


def parse_args(argv: tp.Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m audiocraft fit-tokenizer", description=__doc__)
    parser.add_argument("manifests", nargs="+", help="music to fit to, all alike much")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--measure", nargs="*", default=[], help="manifests of music never seen")
    parser.add_argument("--measure_only", action="store_true", help="OUT is fitted already")
    for option in fields(Recipe):
        parser.add_argument(f"--{option.name}", type=type(option.default), default=option.default)
    return parser.parse_args(argv)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Fit, save, measure."""
    args = parse_args(argv)
    recipe = Recipe(**{option.name: getattr(args, option.name) for option in fields(Recipe)})
    report_file = args.out / "measured.json"
    if not args.measure_only:
        report = fit_and_save(args.manifests, args.out, recipe)
    elif report_file.is_file():
        report = json.loads(report_file.read_text())
    else:
        raise ConfigError(f"{args.out} holds no fitted tokenizer. Leave --measure_only out.")
    tokenizer = load_tokenizer(args.out)
    report["measured"] = {
        manifest: evaluate_tokenizer(tokenizer, excerpts_to_measure(manifest, tokenizer, recipe))
        for manifest in args.measure
    }
    report_file.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{args.out} holds the tokenizer; {report_file} says how it was fitted and what survives."
    )


def fit_and_save(manifests: tp.Sequence[str], out: Path, recipe: Recipe) -> dict[str, tp.Any]:
    """Fit a tokenizer of the usual size; returns what is to be remembered about it."""
    started = time.monotonic()
    tokenizer = SpectralTokenizer().eval()
    num = round(recipe.hours * 3600 / recipe.excerpt)
    excerpts = draw_excerpts(manifests, num, recipe.excerpt, tokenizer.sample_rate, recipe.seed)
    fit_tokenizer(tokenizer, excerpts, recipe)
    save_tokenizer(tokenizer, out)
    seconds = round(time.monotonic() - started)
    return {"fitted_to": list(manifests), "recipe": asdict(recipe), "fit_seconds": seconds}


def excerpts_to_measure(
    manifest: str, tokenizer: SpectralTokenizer, recipe: Recipe
) -> tp.Iterator[Tensor]:
    """The same ones at every call."""
    rate, seed = tokenizer.sample_rate, recipe.seed + 1
    return draw_excerpts([manifest], recipe.measured, recipe.excerpt, rate, seed)


if __name__ == "__main__":
    main()
