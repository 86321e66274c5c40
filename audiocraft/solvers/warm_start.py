"""Warm start configuration: settings of a run that starts from the weights of another model.

Weights fit only the same architecture, tokenizer and conditions. The settings of the source model
are compared with those of the run or, with `continue_from_config=inherit`, replace them.
"""

import logging
import typing as tp
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import ConfigError
from ..models.loaders import LM_FILES, find_model_file
from ..utils.checkpoint_files import extract_model_config, read_checkpoint_file

logger = logging.getLogger(__name__)

# Settings that the weights require; replaced by `continue_from_config=inherit`.
MODEL_KEYS = (
    *("lm_model", "transformer_lm", "codebooks_pattern", "conditioners", "fuser"),
    *("compression_model_checkpoint", "compression_model_n_q", "interleave_stereo_codebooks"),
    *("sample_rate", "channels"),
)
# Settings that may differ, but change what the model is trained for.
TRAINING_KEYS = ("classifier_free_guidance", "attribute_dropout", "dataset.segment_duration")
# Settings in `transformer_lm` that are about training: always those of the run.
RUN_KEYS = ("dropout", "attention_dropout", "emb_lr", "checkpointing")
IGNORED_KEYS = (*RUN_KEYS, "encodec_checkpoint")  # last parts of keys that are not compared
MAX_LISTED = 12  # differences in a message


def source_settings(source: str) -> DictConfig:
    """Read the settings stored with a model; empty if its file contains only weights."""
    config = read_checkpoint_file(find_model_file(source, LM_FILES)).config
    settings = extract_model_config(config)
    with open_dict(settings):
        for key in list(settings):
            if key not in config:  # a default for released checkpoints, not a stored value
                settings.pop(key)
    return settings


def apply_warm_start_config(cfg: DictConfig, folder: Path) -> DictConfig:
    """Return the configuration of a run, with the source model's settings if it inherits them.

    Args:
        cfg: Resolved configuration of the run.
        folder: Folder of the run; a checkpoint in it contains the inherited settings.

    Raises:
        ConfigError: There are no settings to inherit.
    """
    if cfg.continue_from_config is None:
        return cfg
    if cfg.continue_from_config != "inherit":
        raise ConfigError(
            f"continue_from_config={cfg.continue_from_config!r} is not supported. Supported: null, "
            "inherit."
        )
    own = folder / "checkpoint.th"
    source = str(own) if own.is_file() else cfg.continue_from
    if source is None:
        raise ConfigError("continue_from_config=inherit needs a model: set continue_from.")
    theirs = source_settings(source)
    if not theirs.get("transformer_lm"):
        raise ConfigError(
            f"continue_from_config=inherit, but {source} contains weights without settings. Set "
            "continue_from_config=null and choose model/lm/model_scale and conditioner."
        )
    changed = setting_differences(cfg, theirs, MODEL_KEYS)
    if changed:
        logger.info("Inherited from %s: %s.", source, _listed(changed))
    merged = cfg.copy()
    with open_dict(merged):
        for key in MODEL_KEYS:
            value = theirs.get(key)
            if value is not None:
                merged[key] = value
        kept = {k: cfg.transformer_lm[k] for k in RUN_KEYS if k in cfg.transformer_lm}
        merged.transformer_lm.update(kept)
    return merged


def warn_setting_differences(cfg: DictConfig, source: str) -> None:
    """Warn of settings that differ from those of the source model.

    Settings of the model do not differ if they are inherited; those of its training, such as the
    duration of its window, are always those of the run.
    """
    keys = TRAINING_KEYS if cfg.continue_from_config else (*MODEL_KEYS, *TRAINING_KEYS)
    changed = setting_differences(cfg, source_settings(source), keys)
    if changed:
        hint = (
            "The run trains the model for its own values; set those of the model to keep them."
            if cfg.continue_from_config
            else "continue_from_config=inherit uses the settings of the model."
        )
        logger.warning("Settings differ from those of %s: %s. %s", source, _listed(changed), hint)


def warn_fast_embeddings(cfg: DictConfig) -> None:
    """Warn if embeddings that are trained already would learn faster than the other weights."""
    emb_lr, lr = cfg.transformer_lm.get("emb_lr"), cfg.optim.lr
    if emb_lr is not None and emb_lr > lr and not cfg.lora.use and not cfg.execute_only:
        logger.warning(
            "transformer_lm.emb_lr=%g exceeds optim.lr=%g. It is meant for training from scratch "
            "and may overwrite trained embeddings; transformer_lm.emb_lr=null uses optim.lr.",
            emb_lr,
            lr,
        )


def setting_differences(cfg: DictConfig, theirs: DictConfig, keys: tp.Sequence[str]) -> list[str]:
    """Describe the settings below `keys` that differ between a run and a model that has them."""
    changed = []
    for key in keys:
        other = OmegaConf.select(theirs, key)
        if other is None or (OmegaConf.is_config(other) and not len(other)):
            continue
        ours = flatten_settings(OmegaConf.select(cfg, key), key)
        found = flatten_settings(other, key)
        for name in sorted(ours.keys() | found.keys()):
            if name.rpartition(".")[2] in IGNORED_KEYS:
                continue
            value, source_value = ours.get(name), found.get(name)
            if value != source_value:
                changed.append(f"{name} (model {source_value!r}, run {value!r})")
    return changed


def _listed(changed: list[str]) -> str:
    more = [f"{len(changed) - MAX_LISTED} more"] if len(changed) > MAX_LISTED else []
    return ", ".join([*changed[:MAX_LISTED], *more])


def flatten_settings(node: tp.Any, prefix: str) -> dict[str, tp.Any]:
    """Flatten nested settings to dotted names."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, tp.Any] = {}
    for key, value in node.items():
        flat |= flatten_settings(value, f"{prefix}.{key}")
    return flat


def check_lora(cfg: DictConfig, is_sharded: bool) -> None:
    """Check the settings of a run that trains LoRA adapters.

    Raises:
        ConfigError: There is no model to adapt, or the run is sharded.
    """
    if cfg.continue_from is None:
        raise ConfigError(
            "lora.use=true adapts a trained model: set continue_from to it, or lora.use=false."
        )
    if is_sharded:
        raise ConfigError(
            "lora.use=true is not supported with fsdp.use=true; adapters are small enough without. "
            "Set fsdp.use=false."
        )
