"""What an experiment is: the settings that name it, its folder, and what changed behind its back.

Dora names an experiment by the settings on its command line that differ from the defaults. What
the files in `config/` say is not part of the name: change them, and the same command goes on with
other settings. So the folder keeps, in `began.yaml`, the settings with which the experiment began.
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
BEGAN = "began.yaml"
ABSENT = "absent"
SHOWN = 20  # changes that are listed


def to_settings(cfg: DictConfig) -> Settings:
    """A configuration as plain values, its references followed."""
    return tp.cast(Settings, OmegaConf.to_container(cfg, resolve=True))


class Signature(tp.NamedTuple):
    """What a signature is made of, and what of the command line is no part of it."""

    given: list[str]  # settings of the command line, as `key=value`
    following: list[str]  # settings that refer to those
    beside: list[str]  # overrides that are excluded, or say no more than the defaults


def parse_signature(xp: XP) -> Signature:
    """Take a signature apart."""
    delta = [(key, f"{key}={_shown(value)}") for key, value in xp.delta or []]
    overrides = [(arg.lstrip("+~").partition("=")[0], arg) for arg in xp.argv]
    return Signature(
        given=[text for name, text in delta if any(_covers(key, name) for key, _ in overrides)],
        following=[text for name, text in delta if not any(_covers(k, name) for k, _ in overrides)],
        beside=[arg for key, arg in overrides if not any(_covers(key, name) for name, _ in delta)],
    )


def _covers(override: str, name: str) -> bool:
    """Whether an override of `override` can be why `name` differs."""
    return name == override or name.startswith(f"{override}.")


def _shown(value: tp.Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def changed_settings(began: Settings, now: Settings, dora: DoraConfig) -> list[str]:
    """How settings differ from those with which an experiment began, one line for each.

    Args:
        began, now: As `to_settings` gives them.
        dora: Knows the keys that do not make another experiment; they are left out.
    """
    began, now = (
        {key.removeprefix("."): value for key, value in flatten_settings(settings, "").items()}
        for settings in (began, now)
    )
    return [
        f"{key}: {_shown(began.get(key, ABSENT))}, now {_shown(now.get(key, ABSENT))}"
        for key in sorted({*began, *now})
        if began.get(key, ABSENT) != now.get(key, ABSENT) and not dora.is_excluded(key)
    ]


def initial_settings(checkpoints: Checkpoints) -> Settings | None:
    """The settings with which an experiment began; `None` where nothing has been learnt yet."""
    saved = [path for path in (checkpoints.last, checkpoints.previous) if path.is_file()]
    if not saved:
        return None
    began = checkpoints.folder / BEGAN
    try:
        text = began.read_text() if began.is_file() else read_state(saved[0], mmap=True)["xp.cfg"]
    except CheckpointError:  # told by who restores it
        return None
    return to_settings(tp.cast(DictConfig, OmegaConf.create(text)))


def log_experiment(xp: XP, cfg: DictConfig, checkpoints: Checkpoints) -> None:
    """Say in the log what this experiment is, and what has changed since it began."""
    logger.info("\n".join(experiment_summary(xp)))
    now = to_settings(cfg)
    began = initial_settings(checkpoints)
    if began is not None:
        changed = changed_settings(began, now, xp.dora)
        if changed:
            logger.warning(changed_settings_warning(changed))
    if began is None or not (checkpoints.folder / BEGAN).is_file():
        text = OmegaConf.to_yaml(OmegaConf.create(now if began is None else began))
        write_text(checkpoints.folder / BEGAN, text)


def experiment_summary(xp: XP) -> list[str]:
    """Signature, what it is made of, and where everything goes, as lines."""
    given, following, beside = parse_signature(xp)
    lines = [
        f"Experiment {xp.sig} in {xp.folder} (AUDIOCRAFT_DORA_DIR moves it)",
        f"  its signature stands for: {' '.join(given) or 'the defaults'}",
    ]
    if following:
        lines.append(f"  and for what follows from that: {' '.join(following)}")
    if beside:
        lines.append(f"  given beside, and no part of it: {' '.join(beside)}")
    return lines


def changed_settings_warning(changed: list[str]) -> str:
    """The warning about settings that have changed since an experiment began."""
    lines = [f"  {line}" for line in changed[:SHOWN]]
    if len(changed) > SHOWN:
        lines.append(f"  and {len(changed) - SHOWN} more")
    return "\n".join(
        [
            "Files in config/ have changed since this experiment began:",
            *lines,
            "It goes on with what they say now. To keep the old settings change the files back; to "
            "begin again with the new ones: dora run --clear",
        ]
    )


def check_output_folder(folder: Path, make: bool = True) -> None:
    """See that experiments can be written to a folder.

    Args:
        folder: Of all experiments.
        make: Make it if need be; otherwise nothing is touched.

    Raises:
        ConfigError: They cannot.
    """
    try:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is no folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"{existing} is read-only for this user")
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_folder_error(folder, error) from error


def output_folder_error(folder: Path, error: OSError) -> ConfigError:
    """The error of a folder of outputs in which nothing can be written."""
    return ConfigError(
        f"Nothing can be written to {folder}: {error}. Mend that, or choose another "
        "folder for experiments with AUDIOCRAFT_DORA_DIR."
    )
