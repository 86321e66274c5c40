"""Token cache: with `cache.write=true` a run encodes its data sets instead of training.

Equivalent to `python -m audiocraft encode-dataset` for each split, with the settings that the
training run needs. Only the tokenizer is loaded.
"""

import logging

import torch
from omegaconf import DictConfig, OmegaConf

from ..data.loaders import get_source, load_audio_manifest
from ..data.tokens.format import is_token_folder
from ..environment import AudioCraftEnvironment
from ..errors import ConfigError
from ..inference.encode_dataset import EncodingParams, encode_dataset
from ..models import builders, loaders
from ..modules.conditioners import StyleConditioner
from ..utils.device import resolve_device
from .distributed import rank, world_size

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "evaluate")  # generation starts from audio
TEXT_CONDITIONERS = ("t5", "lut")


def style_clip_rate(cfg: DictConfig) -> int:
    """Lowest sample rate of clips that every waveform conditioner accepts; 0 without any."""
    nodes = {
        name: node
        for name, node in (cfg.get("conditioners") or {}).items()
        if node.model not in TEXT_CONDITIONERS
    }
    wav_cfg = cfg.copy()
    wav_cfg.conditioners = nodes
    with torch.device("meta"):
        provider = builders.get_condition_provider(wav_cfg, loaders.load_compression_model)
    conditioners = list(provider.conditioners.values())
    if len(conditioners) == 1 and isinstance(conditioners[0], StyleConditioner):
        return min(cfg.sample_rate, conditioners[0].feature_extractor.sample_rate)
    return cfg.sample_rate if conditioners else 0


def write_token_cache(cfg: DictConfig) -> None:
    """Encode every split of a run into `cache.path`; each process encodes its share.

    Args:
        cfg: Resolved configuration of the run.

    Raises:
        ConfigError: `cache.path` or the shard is invalid, or a split is encoded already.
        ManifestError: A manifest cannot be used, or a folder cannot be written.
    """
    shard, num_shards = cfg.cache.write_shard, cfg.cache.write_num_shards
    if cfg.cache.path is None:
        raise ConfigError("cache.write=true needs a folder to write to: set cache.path.")
    if not 0 <= shard < num_shards:
        raise ConfigError(
            f"cache.write_shard is {shard} but must be from 0 to {num_shards - 1} "
            f"(cache.write_num_shards={num_shards})."
        )
    interleave = cfg.interleave_stereo_codebooks
    stereo = "timesteps" if interleave.per_timestep else "codebooks"
    encoding = EncodingParams(
        tokenizer=cfg.compression_model_checkpoint,
        num_codebooks=cfg.compression_model_n_q,
        stereo=stereo if interleave.use else None,
        wave_rate=style_clip_rate(cfg),
        device=resolve_device(cfg.device).type,
        workers=None if world_size() == 1 else 1,
    )
    part, parts = shard * world_size() + rank(), num_shards * world_size()
    for split in SPLITS:
        if OmegaConf.select(cfg, f"datasource.{split}") is None:
            continue
        source = get_source(cfg, split)
        if is_token_folder(source):
            raise ConfigError(f"datasource.{split} is {source}, which is encoded already.")
        folder = AudioCraftEnvironment.resolve_reference_path(cfg.cache.path) / split
        whole = encode_dataset(load_audio_manifest(source), folder, encoding, part, parts, True)
        logger.info("%s: %s", folder, "complete" if whole else f"part {part} of {parts} written")
    logger.info("To train on the tokens, run the same command with cache.write=false.")
