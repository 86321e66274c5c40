"""A run that starts from another model: whose settings hold, and what differs between the two.

Weights only fit a model that is built alike, and only mean something with the same tokenizer and
the same conditions. So the settings under which they were learnt are compared with the run's own,
or taken over.
"""

import logging
import typing as tp
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import ConfigError
from ..models.loaders import LM_FILES, find_model_file
from ..utils.checkpoint_files import extract_model_config, read_checkpoint_file

logger = logging.getLogger(__name__)

# What must be the same where weights go on; also what `apply_warm_start_config` takes over.
OF_THE_MODEL = (
    *("lm_model", "transformer_lm", "codebooks_pattern", "conditioners", "fuser"),
    *("compression_model_checkpoint", "compression_model_n_q", "interleave_stereo_codebooks"),
    *("sample_rate", "channels"),
)
# What may differ, but changes what the weights were trained for.
OF_THE_TRAINING = ("classifier_free_guidance", "attribute_dropout", "dataset.segment_duration")
# Beside the model's size, but about how a run trains it: these are always the run's own.
OF_THE_RUN = ("dropout", "attention_dropout", "emb_lr", "checkpointing")
NOT_TOLD = (*OF_THE_RUN, "encodec_checkpoint")  # last parts of keys: no difference
MOST = 12  # differences that are named

Flat = dict[str, tp.Any]


def source_settings(source: str) -> DictConfig:
    """The settings that come with the model of a name; none with a hand-made file."""
    config = read_checkpoint_file(find_model_file(source, LM_FILES)).config
    described = extract_model_config(config)
    with open_dict(described):
        for key in list(described):
            if key not in config:  # what a missing setting means is not told
                described.pop(key)
    return described


def apply_warm_start_config(cfg: DictConfig, folder: Path) -> DictConfig:
    """The run's configuration, with the settings of the model that it continues if it says so.

    Args:
        cfg: Resolved configuration of the run.
        folder: Of the run; its own checkpoint knows the settings that were taken over.

    Raises:
        ConfigError: There is nothing to inherit from.
    """
    if cfg.continue_from_config is None:
        return cfg
    if cfg.continue_from_config != "inherit":
        raise ConfigError(
            f"continue_from_config is {cfg.continue_from_config!r}. Choose null or inherit."
        )
    own = folder / "checkpoint.th"
    source = str(own) if own.is_file() else cfg.continue_from
    if source is None:
        raise ConfigError("continue_from_config=inherit needs continue_from: which model?")
    theirs = source_settings(source)
    if not theirs.get("transformer_lm"):
        raise ConfigError(
            f"{source} holds weights without settings: nothing can be inherited. Set "
            "continue_from_config=null and choose model/lm/model_scale and conditioner yourself."
        )
    told = setting_differences(cfg, theirs, OF_THE_MODEL)
    if told:
        logger.info("Taken over from %s: %s.", source, "; ".join(told[:MOST]))
    merged = cfg.copy()
    with open_dict(merged):
        for key in OF_THE_MODEL:
            value = theirs.get(key)
            if value is not None:
                merged[key] = value
        own_way = {k: cfg.transformer_lm[k] for k in OF_THE_RUN if k in cfg.transformer_lm}
        merged.transformer_lm.update(own_way)
    return merged


def warn_setting_differences(cfg: DictConfig, source: str) -> None:
    """Say in which settings that matter the run differs from the model that it continues.

    Where it has taken them over, `apply_warm_start_config` has told.
    """
    if cfg.continue_from_config:
        return
    theirs = source_settings(source)
    told = setting_differences(cfg, theirs, (*OF_THE_MODEL, *OF_THE_TRAINING))
    if told:
        more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
        logger.warning(
            "Settings differ from those of %s: %s%s. continue_from_config=inherit takes over "
            "those of the model.",
            source,
            "; ".join(told[:MOST]),
            more,
        )


def warn_fast_embeddings(cfg: DictConfig) -> None:
    """Say where a learnt model would get a rate that was meant for one that knows nothing."""
    emb_lr, lr = cfg.transformer_lm.get("emb_lr"), cfg.optim.lr
    if emb_lr is not None and emb_lr > lr and not cfg.lora.use and not cfg.execute_only:
        logger.warning(
            "transformer_lm.emb_lr=%g lets the embeddings learn faster than the rest "
            "(optim.lr=%g), which is meant for a model that knows nothing yet: what they have "
            "learnt may be lost. To have them learn like the rest: transformer_lm.emb_lr=null.",
            emb_lr,
            lr,
        )


def setting_differences(cfg: DictConfig, theirs: DictConfig, keys: tp.Sequence[str]) -> list[str]:
    """Sentences on the settings in which two models differ, where both have them."""
    told = []
    for key in keys:
        other = OmegaConf.select(theirs, key)
        if other is None or (OmegaConf.is_config(other) and not len(other)):
            continue
        ours, found = (
            flatten_settings(OmegaConf.select(cfg, key), key),
            flatten_settings(other, key),
        )
        for name in sorted(ours.keys() | found.keys()):
            if name.rpartition(".")[2] in NOT_TOLD:
                continue
            here, there = ours.get(name), found.get(name)
            if here != there:
                told.append(f"{name} is {there!r} there and {here!r} here")
    return told


def flatten_settings(node: tp.Any, prefix: str) -> Flat:
    """Nested settings as dotted names."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if not isinstance(node, dict):
        return {prefix: node}
    found: Flat = {}
    for key, value in node.items():
        found |= flatten_settings(value, f"{prefix}.{key}")
    return found


def check_lora(cfg: DictConfig, is_sharded: bool) -> None:
    """See that adapters have something to adapt.

    Raises:
        ConfigError: They have not, or the run does what they cannot.
    """
    if cfg.continue_from is None:
        raise ConfigError(
            "lora.use=true trains small additions to a model: say which with continue_from=…, or "
            "set lora.use=false."
        )
    if is_sharded:
        raise ConfigError(
            "lora.use=true leaves so little to learn that it needs no shards: set fsdp.use=false."
        )
