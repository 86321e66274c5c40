"""`cache.write=true`: a run that encodes its own data sets instead of training.

What `python -m audiocraft encode-dataset` does for one manifest, with everything that it asks for
taken from the configuration of the run that will train.
"""

import logging

from omegaconf import DictConfig

from ..data.loaders import get_source, load_audio_manifest
from ..data.tokens.format import is_token_folder
from ..environment import AudioCraftEnvironment
from ..errors import ConfigError
from ..inference.encode_dataset import EncodingParams, encode_dataset
from ..modules.conditioners import ConditionProvider, StyleConditioner
from .distributed import rank, world_size

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "evaluate")  # generation starts from audio


def style_clip_rate(provider: ConditionProvider, sample_rate: int) -> int:
    """The lowest sample rate of clips that every conditioner accepts; 0 where nobody listens."""
    conditioners = [provider.conditioners[name] for name in provider.wav_conditions]
    if len(conditioners) == 1 and isinstance(conditioners[0], StyleConditioner):
        return min(sample_rate, conditioners[0].feature_extractor.sample_rate)
    return sample_rate if conditioners else 0


def write_token_cache(cfg: DictConfig, provider: ConditionProvider, device: str) -> None:
    """Encode every split of a run below `cache.path`; of several processes each does its share.

    Args:
        cfg: The configuration of the run.
        provider: The model's conditioners, which say what is heard.
        device: Where tokenizers run.

    Raises:
        ConfigError: There is no `cache.path`, no such shard, or a split is encoded already.
        ManifestError: A manifest cannot be used, or a folder cannot be written.
    """
    shard, num_shards = cfg.cache.write_shard, cfg.cache.write_num_shards
    if cfg.cache.path is None:
        raise ConfigError("cache.write=true needs a folder to write: set cache.path.")
    if not 0 <= shard < num_shards:
        raise ConfigError(
            f"cache.write_shard is {shard} of cache.write_num_shards={num_shards}. "
            f"Choose 0 to {num_shards - 1}."
        )
    interleave = cfg.interleave_stereo_codebooks
    encoding = EncodingParams(
        tokenizer=cfg.compression_model_checkpoint,
        num_codebooks=cfg.compression_model_n_q,
        stereo=("timesteps" if interleave.per_timestep else "codebooks")
        if interleave.use
        else None,
        wave_rate=style_clip_rate(provider, cfg.sample_rate),
        device=device,
        workers=None if world_size() == 1 else 1,
    )
    for split in SPLITS:
        if cfg.datasource[split] is None:
            continue
        source = get_source(cfg, split)
        if is_token_folder(source):
            raise ConfigError(f"datasource.{split} is {source}, which holds tokens already.")
        folder = AudioCraftEnvironment.resolve_reference_path(cfg.cache.path) / split
        part, parts = shard * world_size() + rank(), num_shards * world_size()
        whole = encode_dataset(load_audio_manifest(source), folder, encoding, part, parts, True)
        logger.info("%s: %s", folder, "complete" if whole else f"part {part} of {parts} is done")
    logger.info("Train with the same command and cache.write=false.")
