"""Comparison of our configuration with the recorded one, and the table of differences.

Removed keys are in `audiocraft.utils.deprecated_keys`; added keys and keys with different values
are listed here, each with its reason.
"""

import typing as tp
from functools import cache

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from audiocraft.utils.deprecated_keys import deprecation_reason

from .harness import ROOT

Flat = dict[str, tp.Any]
MISSING = "<no such key>"

ADDED_KEYS = {
    "dora.grid_package": "grids lie outside of the package",
    "fsdp.cpu_offload": "weights may wait in the memory of the CPU",
    "fsdp.async_save": "checkpoints are written while training continues",
    **{f"lora.{key}": "LoRA" for key in ("use", "rank", "alpha", "dropout", "style")},
    "continue_from_config": "settings of the model that training starts from",
    "optim.accumulate": "batches that do not fit are split into micro-batches",
    "compile.use": "torch.compile",
    "compile.mode": "torch.compile",
    "as_one_process": "training that does not depend on the number of processes",
    "checkpoint.every_updates": "checkpoints within an epoch",
    "checkpoint.every_minutes": "checkpoints within an epoch",
    "logging.log_csv": "metrics as a table that anything opens",
    "logging.log_jsonl": "metrics as lines that any script reads",
    "wandb.mode": "nodes of a cluster often have no network",
    "losses.l2": "every loss has a weight",
    "losses.mrstft": "every loss has a weight",
    "rvq.shrinking_start": "entries need not shrink after their start",
    "msd.downsample_factor": "the papers downsample, the original does not",
    **{f"adversarial.{key}": "a discriminator that wins" for key in ("start", "warmup", "lr")},
    "adversarial.max_norm": "a discriminator that wins",
    "wandb.finish_timeout": "nor does a run wait for a network that is gone",
}

# (key, recorded value): our value. The reason is in the comment.
DIFFERENT_VALUES: dict[tuple[str, str], tp.Any] = {
    ("device", "cuda"): "auto",  # training without a GPU is supported
    ("optim.ema.device", "cuda"): "auto",  # the device of the weights
    ("optim.ema.device", "cpu"): "auto",
    ("dora.dir", "/checkpoint/user/experiments/audiocraft/outputs"): "./outputs",  # does not exist
    ("metrics.fad.model", "tf"): "musicnn",  # no TensorFlow
    # No track is in two splits.
    ("datasource.train", "egs/example"): "egs/example/train",
    ("datasource.valid", "egs/example"): "egs/example/valid",
    ("datasource.evaluate", "egs/example"): "egs/example/evaluate",
    ("datasource.generate", "egs/example"): "egs/example/generate",
    # A missing manifest raises its own error; Dora cannot compare mandatory values.
    ("datasource.max_sample_rate", "???"): None,
    ("datasource.max_channels", "???"): None,
    ("datasource.train", "???"): None,
    ("datasource.valid", "???"): None,
    ("datasource.evaluate", "???"): None,
}

# Patterns of `dora.exclude`: removed ones, which match no key, and added ones.
EXCLUDE_REMOVED = {
    "eval.num_workers",
    "special.*",
    "metrics.visqol.bin",
    "metrics.fad.bin",
    "execute_best",
    "efficient_attention_backend",
}
EXCLUDE_ADDED = {"evaluate.num_workers", "generate.num_workers", "show"}
EXCLUDE_ADDED |= {"checkpoint.every_updates", "checkpoint.every_minutes"}
EXCLUDE_ADDED |= {"execute_inplace", "compile.*"}


def flatten(node: tp.Any, prefix: str = "") -> Flat:
    """Flatten nested dictionaries to dotted keys; an empty dictionary is a value."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: Flat = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def compose_config(*overrides: str) -> DictConfig:
    """Compose our configuration with the overrides of a command line."""
    with initialize_config_dir(config_dir=str(ROOT / "config"), version_base="1.3"):
        return compose("config", list(overrides))


@cache
def composed(*overrides: str) -> Flat:
    """Return our flat resolved configuration; mandatory values stay `???`."""
    return flatten(OmegaConf.to_container(compose_config(*overrides), resolve=True))


def is_retired(*overrides: str) -> bool:
    """Return whether an override is out of scope."""
    return any(deprecation_reason(override) for override in overrides)


def expected(recorded: Flat) -> Flat:
    """Return our expected values for the recorded ones."""
    ours = {
        key: DIFFERENT_VALUES.get((key, value), value) if isinstance(value, str) else value
        for key, value in recorded.items()
        if not deprecation_reason(key)
    }
    if "dora.exclude" in ours:
        ours["dora.exclude"] = [*{*ours["dora.exclude"]} - EXCLUDE_REMOVED | EXCLUDE_ADDED]
    return ours


def comparable(flat: Flat) -> Flat:
    """Return a configuration without added keys, with `dora.exclude` sorted."""
    common = {key: value for key, value in flat.items() if key not in ADDED_KEYS}
    if "dora.exclude" in common:
        common["dora.exclude"] = sorted(common["dora.exclude"])
    return common


def assert_same(ours: Flat, recorded: Flat, title: str) -> None:
    """Assert equality; the error lists every differing key."""
    ours, recorded = comparable(ours), comparable(expected(recorded))
    differing = {
        key: (ours.get(key, MISSING), recorded.get(key, MISSING))
        for key in sorted({*ours, *recorded})
        if ours.get(key, MISSING) != recorded.get(key, MISSING)
    }
    lines = [
        f"  {key}: ours {mine!r}, recorded {theirs!r}" for key, (mine, theirs) in differing.items()
    ]
    assert not differing, f"{title} differs:\n" + "\n".join(lines)
