"""Experiments: signature, folder, and settings that have changed since the first run.

Dora names an experiment by the settings of its command line that differ from the defaults. Files
in `config/` are not part of the name: after a change the same command runs with other settings.
The settings of the first run are therefore stored in the experiment's folder, in `began.yaml`.
"""

import json
import logging
import os
import typing as tp
from pathlib import Path

from dora.conf import DoraConfig
from dora.xp import XP
from omegaconf import DictConfig, OmegaConf

from ..errors import CheckpointError, ConfigError
from ..utils.atomic_write import write_text
from .checkpoint import Checkpoints, read_state
from .warm_start import flatten_settings

logger = logging.getLogger(__name__)

Settings = dict[str, tp.Any]
INITIAL_SETTINGS_FILE = "began.yaml"
ABSENT = "absent"
MAX_LISTED = 20  # changed settings in the log


def to_settings(cfg: DictConfig) -> Settings:
    """Convert a configuration to plain values, with references resolved."""
    return tp.cast(Settings, OmegaConf.to_container(cfg, resolve=True))


# The signature.


class Signature(tp.NamedTuple):
    """Settings behind the signature of an experiment, and overrides that are not part of it."""

    given: list[str]  # settings of the command line, as `key=value`
    dependent: list[str]  # settings that refer to those
    ignored: list[str]  # overrides that Dora excludes, or that equal the defaults


def parse_signature(xp: XP) -> Signature:
    """Split the command line of an experiment into the parts of its signature."""
    delta = [(key, f"{key}={_format(value)}") for key, value in xp.delta or []]
    overrides = [(arg.lstrip("+~").partition("=")[0], arg) for arg in xp.argv]
    return Signature(
        given=[text for name, text in delta if any(_covers(key, name) for key, _ in overrides)],
        dependent=[text for name, text in delta if not any(_covers(k, name) for k, _ in overrides)],
        ignored=[arg for key, arg in overrides if not any(_covers(key, name) for name, _ in delta)],
    )


def _covers(override: str, name: str) -> bool:
    """Whether an override of the key `override` sets `name`."""
    return name == override or name.startswith(f"{override}.")


def _format(value: tp.Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def experiment_summary(xp: XP) -> list[str]:
    """Lines with the signature, its settings and the folder of an experiment."""
    signature = parse_signature(xp)
    lines = [
        f"Experiment {xp.sig} in {xp.folder} (below AUDIOCRAFT_DORA_DIR)",
        f"  settings of the signature: {' '.join(signature.given) or 'the defaults'}",
    ]
    if signature.dependent:
        lines.append(f"  settings that depend on those: {' '.join(signature.dependent)}")
    if signature.ignored:
        lines.append(f"  not part of the signature: {' '.join(signature.ignored)}")
    return lines


# Settings that have changed since the first run.


def initial_settings(checkpoints: Checkpoints) -> Settings | None:
    """Read the settings of the first run; `None` before the first checkpoint."""
    saved = [path for path in (checkpoints.last, checkpoints.previous) if path.is_file()]
    if not saved:
        return None
    file = checkpoints.folder / INITIAL_SETTINGS_FILE
    try:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
        else:  # written by an older version
            text = read_state(saved[0], mmap=True)["xp.cfg"]
    except CheckpointError:  # reported when the run resumes
        return None
    return to_settings(tp.cast(DictConfig, OmegaConf.create(text)))


def changed_settings(initial: Settings, now: Settings, dora: DoraConfig) -> list[str]:
    """Describe how settings differ from those of the first run, one line each.

    Args:
        initial, now: Plain values, as returned by `to_settings`.
        dora: Names the keys that do not belong to an experiment; they are left out.
    """
    initial, now = (
        {key.removeprefix("."): value for key, value in flatten_settings(settings, "").items()}
        for settings in (initial, now)
    )
    return [
        f"{key}: {_format(initial.get(key, ABSENT))}, now {_format(now.get(key, ABSENT))}"
        for key in sorted({*initial, *now})
        if initial.get(key, ABSENT) != now.get(key, ABSENT) and not dora.is_excluded(key)
    ]


def changed_settings_warning(changed: list[str]) -> str:
    """Text of the warning about changed settings."""
    lines = [f"  {line}" for line in changed[:MAX_LISTED]]
    if len(changed) > MAX_LISTED:
        lines.append(f"  and {len(changed) - MAX_LISTED} more")
    return "\n".join(
        [
            "Files in config/ have changed since the first run of this experiment:",
            *lines,
            "The run uses the present values. To keep the former ones, revert the files; to start "
            "again with the new ones: dora run --clear",
        ]
    )


def log_experiment(xp: XP, cfg: DictConfig, checkpoints: Checkpoints) -> None:
    """Log the experiment and changes of its settings; store the settings of the first run."""
    logger.info("\n".join(experiment_summary(xp)))
    now = to_settings(cfg)
    initial = initial_settings(checkpoints)
    if initial is not None:
        changed = changed_settings(initial, now, xp.dora)
        if changed:
            logger.warning(changed_settings_warning(changed))
    file = checkpoints.folder / INITIAL_SETTINGS_FILE
    if initial is None or not file.is_file():
        write_text(file, OmegaConf.to_yaml(OmegaConf.create(initial or now)))


# The folder of experiments.


def check_output_folder(folder: Path, make: bool = True) -> None:
    """Check that experiments can be written to a folder.

    Args:
        folder: Folder of all experiments.
        make: Create it if it does not exist; otherwise nothing is written.

    Raises:
        ConfigError: It is not writable.
    """
    try:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"{existing} is read-only for this user")
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_folder_error(folder, error) from error


def output_folder_error(folder: Path, error: OSError) -> ConfigError:
    """Build the error of a folder that is not writable."""
    return ConfigError(
        f"Experiments cannot be written to {folder}: {error}. Fix that, or set AUDIOCRAFT_DORA_DIR "
        "to another folder."
    )
