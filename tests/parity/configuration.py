"""Composing our configuration, and the short table of where it differs on purpose.

Keys that are gone stand in `audiocraft.utils.retired_keys`; here are those that are new and those
whose value differs, each with the reason.
"""

import typing as tp

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from audiocraft.utils.retired_keys import why_retired

from .harness import ROOT

Flat = dict[str, tp.Any]
EXAMPLE = {"egs/example"}
MISSING = "<no such key>"

ADDED_KEYS = {
    "dora.grid_package": "grids lie outside of the package",
}

# Key: (recorded values, ours, reason).
DIFFERENT_VALUES: dict[str, tuple[set[str], tp.Any, str]] = {
    "device": ({"cuda"}, "auto", "a machine without a GPU trains, too"),
    "optim.ema.device": ({"cuda", "cpu"}, "auto", "beside the weights, wherever they are"),
    "dora.dir": (
        {"/checkpoint/user/experiments/audiocraft/outputs"},
        "./outputs",
        "there is no /checkpoint here",
    ),
    "metrics.fad.model": ({"tf"}, "musicnn", "no TensorFlow"),
    "datasource.train": (EXAMPLE, "egs/example/train", "no piece is in two splits"),
    "datasource.valid": (EXAMPLE, "egs/example/valid", "no piece is in two splits"),
    "datasource.evaluate": (EXAMPLE, "egs/example/evaluate", "no piece is in two splits"),
    "datasource.generate": (EXAMPLE, "egs/example/generate", "no piece is in two splits"),
}

# Patterns of `dora.exclude` that are gone because no key matches them, and new ones.
EXCLUDE_GONE = {
    "eval.num_workers",
    "special.*",
    "metrics.visqol.bin",
    "metrics.fad.bin",
    "execute_best",
    "efficient_attention_backend",
}
EXCLUDE_ADDED = {"evaluate.num_workers", "generate.num_workers", "show"}


def flatten(node: tp.Any, prefix: str = "") -> Flat:
    """Nested dictionaries as dotted keys; an empty dictionary is a value."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: Flat = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def composed(*overrides: str) -> Flat:
    """Our configuration with all interpolations resolved; what is mandatory stays `???`."""
    with initialize_config_dir(config_dir=str(ROOT / "config"), version_base="1.3"):
        cfg = compose("config", list(overrides))
    return flatten(OmegaConf.to_container(cfg, resolve=True))


def is_retired(*overrides: str) -> bool:
    """Whether one of the choices is out of scope."""
    return any(why_retired(override) for override in overrides)


def expected(recorded: Flat) -> Flat:
    """What ours should be where the original had `recorded`."""
    ours = {key: value for key, value in recorded.items() if not why_retired(key)}
    for key, (theirs, value, _) in DIFFERENT_VALUES.items():
        if isinstance(ours.get(key), str) and ours[key] in theirs:
            ours[key] = value
    if "dora.exclude" in ours:
        ours["dora.exclude"] = sorted({*ours["dora.exclude"]} - EXCLUDE_GONE | EXCLUDE_ADDED)
    return ours


def comparable(ours: Flat) -> Flat:
    """Our configuration without added keys, with the patterns of `dora.exclude` in order."""
    known = {key: value for key, value in ours.items() if key not in ADDED_KEYS}
    if "dora.exclude" in known:
        known["dora.exclude"] = sorted(known["dora.exclude"])
    return known


def assert_same(ours: Flat, recorded: Flat, title: str) -> None:
    """Fail with every key that differs."""
    ours, recorded = comparable(ours), expected(recorded)
    differing = {
        key: (ours.get(key, MISSING), recorded.get(key, MISSING))
        for key in sorted({*ours, *recorded})
        if ours.get(key, MISSING) != recorded.get(key, MISSING)
    }
    lines = [
        f"  {key}: ours {mine!r}, recorded {theirs!r}" for key, (mine, theirs) in differing.items()
    ]
    assert not differing, f"{title} differs:\n" + "\n".join(lines)
