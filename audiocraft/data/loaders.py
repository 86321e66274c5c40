"""Data loaders: the only module of this package that reads a configuration.

`datasource` names a manifest or a token folder per split. `dataset` holds the arguments of the data
set and its loader; those in `dataset.train`, `dataset.valid`, `dataset.evaluate` or
`dataset.generate` override them for one split. `cache.path` replaces the audio of all splits except
`generate` by tokens.
"""

import inspect
import logging
import os
import typing as tp
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from ..environment import AudioCraftEnvironment
from ..errors import AudiocraftError, ConfigError, ManifestError
from ..utils.randomness import derive_seed
from .audio_dataset import AudioDataset
from .manifest import AudioMeta, load_manifest
from .music_dataset import MusicDataset
from .music_info import READERS
from .sampler import ShardedSampler
from .tokens.dataset import TokenAudioDataset, TokenDataset
from .tokens.format import TokenizerSpec, check_tokenizer, is_token_folder, read_header

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "evaluate", "generate")
LOADER_KEYS = {*SPLITS, "batch_size", "num_workers"}


def get_audio_datasets(
    cfg: DictConfig,
    *,
    rank: int = 0,
    world_size: int = 1,
    splits: tp.Sequence[str] = SPLITS,
    tokenizer: TokenizerSpec | None = None,
) -> dict[str, DataLoader]:
    """Build the loader of every split that has a data source.

    Every file list is read and some files of each are opened, to detect errors early.

    Args:
        cfg: Configuration; uses `datasource`, `dataset`, `cache`, `solver`,
            `conditioners`, `sample_rate`, `channels`, `seed` and `optim.updates_per_epoch`.
        rank: Index of this process.
        world_size: Number of processes.
        splits: Splits to build.
        tokenizer: The model's tokenizer; pre-encoded data must match it.

    Returns:
        Loaders of `Batch`es by split. Those of a token folder hold codes, others waveforms.
        Call `loader.dataset.set_epoch` before every epoch; `loader.sampler.start_at` skips batches
        of the next one.

    Raises:
        ConfigError: A setting is invalid or contradicts another one.
        ManifestError: A manifest or a metadata file cannot be used.
        AudioError: No audio file of a split can be read.
    """
    _check_limits(cfg)
    if cfg.datasource.get("train") is None and not OmegaConf.select(cfg, "execute_only"):
        raise ConfigError(
            "datasource.train is not set. Select a data set such as dset=audio/example, "
            "or set a manifest: datasource.train=egs/NAME."
        )
    return {
        split: _get_loader(cfg, split, rank, world_size, tokenizer)
        for split in splits
        if cfg.datasource.get(split) is not None
    }


def _check_limits(cfg: DictConfig) -> None:
    """Check the sample rate and channels of the model against those of the data."""
    for key, limit in (("sample_rate", "max_sample_rate"), ("channels", "max_channels")):
        maximum = cfg.datasource.get(limit)
        if maximum is not None and cfg[key] > maximum:
            raise ConfigError(
                f"{key}={cfg[key]} exceeds datasource.{limit}={maximum}. Lower {key}, "
                f"or raise datasource.{limit} if the audio supports it."
            )


def _get_loader(
    cfg: DictConfig, split: str, rank: int, world_size: int, tokenizer: TokenizerSpec | None
) -> DataLoader:
    options = {**cfg.dataset, **(cfg.dataset.get(split) or {})}
    batch_size = options["batch_size"]
    _check_batch_size(batch_size, world_size)
    dataset = _build_dataset(cfg, split, options, tokenizer)
    training = split == "train"
    updates = OmegaConf.select(cfg, "optim.updates_per_epoch") if training else None
    if updates is not None and updates < 1:
        raise ConfigError(f"optim.updates_per_epoch={updates} must be at least 1 or null.")
    sampler = ShardedSampler(
        len(dataset),
        batch_size,
        rank=rank,
        world_size=world_size,
        drop_last=training,
        max_batches=updates,
    )
    if not len(sampler):
        raise ConfigError(
            f"dataset.{split}.num_samples is {len(dataset)}, less than a batch of {batch_size}. "
            "Raise it, or lower dataset.batch_size."
        )
    if updates is not None and len(dataset) // batch_size < updates:
        logger.warning(
            "An epoch has %d updates instead of optim.updates_per_epoch=%d, since "
            "dataset.train.num_samples is %d.",
            len(dataset) // batch_size,
            updates,
            len(dataset),
        )
    num_workers = _num_workers(cfg, split, options.get("num_workers", 0))
    return DataLoader(
        dataset,
        batch_size // world_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=dataset.collater,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        # The default draws from the global generator in every epoch.
        generator=torch.Generator().manual_seed(derive_seed("workers", cfg.seed, split, rank)),
    )


def _check_batch_size(batch_size: tp.Any, world_size: int) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"dataset.batch_size must be at least 1 but is {batch_size!r}.")
    if batch_size % world_size:
        nearest = -(-batch_size // world_size) * world_size
        raise ConfigError(
            f"dataset.batch_size is {batch_size}, over all processes, which does not divide by "
            f"{world_size} processes. Choose a multiple of {world_size}, such as {nearest}."
        )


def _num_workers(cfg: DictConfig, split: str, num_workers: int) -> int:
    """Number of workers, limited by the number of CPUs."""
    maximum = OmegaConf.select(cfg, f"{split}.num_workers")
    return min(num_workers, num_cpus(), num_workers if maximum is None else maximum)


def num_cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_source(cfg: DictConfig, split: str) -> Path:
    """Data source of a split: a manifest, its folder, or a token folder.

    Raises:
        ManifestError: The cache has no tokens of the split.
    """
    cache = OmegaConf.select(cfg, "cache.path")
    if cache is None or split == "generate" or cfg.cache.write:
        return AudioCraftEnvironment.resolve_source_path(cfg.datasource[split])
    folder = AudioCraftEnvironment.resolve_reference_path(cache) / split
    if not is_token_folder(folder):
        raise ManifestError(
            f"cache.path={cache} but {folder} is not a token folder. Write it with the same "
            "command and cache.write=true, or set cache.path=null."
        )
    return folder


def load_audio_manifest(source: Path) -> list[AudioMeta]:
    """Read a manifest, with the path mappings of this cluster."""
    mapped = bool(AudioCraftEnvironment.get_dataset_mappers())
    return load_manifest(source, AudioCraftEnvironment.apply_dataset_mappers if mapped else None)


def _build_dataset(
    cfg: DictConfig, split: str, options: dict[str, tp.Any], tokenizer: TokenizerSpec | None
) -> AudioDataset:
    kind = MusicDataset if cfg.solver == "musicgen" else AudioDataset
    known = {*inspect.signature(kind).parameters, *inspect.signature(AudioDataset).parameters}
    options = {k: v for k, v in options.items() if k not in LOADER_KEYS}
    for key in options:
        if key not in known:
            raise ConfigError(
                f"dataset.{split} has {key!r}, which is not supported. "
                f"Supported: {', '.join(sorted(known - {'meta', 'kwargs'}))}."
            )
    if options.get("num_samples") is None:
        options.pop("num_samples", None)
    options |= {"sample_rate": cfg.sample_rate, "channels": cfg.channels}
    conditioners = OmegaConf.select(cfg, "conditioners") or {}
    if kind is MusicDataset:
        options["info_fields_required"] = [name for name in conditioners if name in READERS]
    try:
        source = get_source(cfg, split)
        if not is_token_folder(source):
            dataset = kind(load_audio_manifest(source), **options)
        elif kind is not MusicDataset:
            raise ConfigError(f"{source} contains tokens, but solver={cfg.solver} trains on audio.")
        else:
            needs_wav = split == "generate" or "self_wav" in conditioners
            options["load_wav"] = needs_wav and options.get("load_wav", True)
            dataset = _token_dataset(split, source, options, tokenizer)
        dataset.check()
    except AudiocraftError as error:
        raise type(error)(f"datasource.{split}: {error}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"dataset.{split}: {error}") from None
    return dataset


def _token_dataset(
    split: str, folder: Path, options: dict[str, tp.Any], tokenizer: TokenizerSpec | None
) -> AudioDataset:
    """Data set of a token folder; the generate split reads its waveforms."""
    if tokenizer is not None:
        check_tokenizer(folder, read_header(folder), tokenizer)
        options["num_codebooks"] = tokenizer.num_codebooks
    return (TokenAudioDataset if split == "generate" else TokenDataset)(folder, **options)
