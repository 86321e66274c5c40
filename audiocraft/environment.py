"""Where this machine keeps things: experiments, reference files, caches, SLURM partitions.

None of it belongs to an experiment, so none of it stands in a configuration. A team writes it
down once in `config/teams/TEAM.yaml`, one section per cluster; environment variables win:

    AUDIOCRAFT_TEAM           which file of `config/teams` (`default`)
    AUDIOCRAFT_CLUSTER        which section of it (guessed)
    AUDIOCRAFT_CONFIG         another such file, or another folder in place of `config`
    AUDIOCRAFT_DORA_DIR       folder of experiments
    AUDIOCRAFT_REFERENCE_DIR  what `//reference/…` stands for
    AUDIOCRAFT_CACHE_DIR      folder of what can be computed again

All of it is read once, at the first use. Folders of a team's file count from the root of a checkout
or, with an installed package, from the current directory.
"""

import importlib.util
import os
import re
import shutil
import sys
import typing as tp
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from .errors import ConfigError

PACKAGE = Path(__file__).parent
# The folder of config/, grids/, assets/, egs/ and dataset/: a wheel has them inside the package.
ROOT = PACKAGE if (PACKAGE / "config").is_dir() else PACKAGE.parent
REFERENCE = "//reference/"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The settings of one team on one cluster. Folders are absolute."""

    team: str
    cluster: str
    dora_dir: Path
    reference_dir: Path
    cache_dir: Path
    partitions: dict[str, str | None]  # kind of partition -> its name; None is the cluster's own
    slurm_exclude: tuple[str, ...]  # nodes to avoid
    dataset_mappers: tuple[tuple[re.Pattern[str], str], ...]  # in paths of manifests


def config_dir() -> Path:
    """The folder of the configuration: AUDIOCRAFT_CONFIG, or else the package's own."""
    chosen = Path(os.environ.get("AUDIOCRAFT_CONFIG") or ROOT / "config").expanduser()
    return chosen.absolute() if chosen.is_dir() else ROOT / "config"


def bundled_dir() -> Path:
    """The folder of the models and sounds that come with the package."""
    return ROOT / "assets"


def grid_package(name: str) -> str:
    """The package of grids with this name: importable as it is, else part of the wheel."""
    return name if importlib.util.find_spec(name) is not None else f"{__package__}.{name}"


def read_environment(variables: tp.Mapping[str, str]) -> Environment:
    """Put the settings together from a team's file and the environment.

    Args:
        variables: Environment variables, as in `os.environ`.

    Raises:
        ConfigError: The team, its file, or the cluster is named but absent.
    """
    team = variables.get("AUDIOCRAFT_TEAM") or "default"
    file = _team_file(team, variables.get("AUDIOCRAFT_CONFIG"))
    sections = _read_sections(file) if file else {}
    cluster, settings = _pick_cluster(sections, variables.get("AUDIOCRAFT_CLUSTER"), file)
    root = Path.cwd() if ROOT == PACKAGE else ROOT

    def folder(key: str, default: str) -> Path:
        override = variables.get(f"AUDIOCRAFT_{key.upper()}")
        if override:
            return Path(override).expanduser().absolute()
        return root / Path(os.path.expandvars(settings.get(key) or default)).expanduser()

    return Environment(
        team=team,
        cluster=cluster,
        dora_dir=folder("dora_dir", "./outputs"),
        reference_dir=folder("reference_dir", "./reference"),
        cache_dir=folder("cache_dir", "~/.cache/audiocraft"),
        partitions=settings.get("partitions") or {},
        slurm_exclude=tuple(settings.get("slurm_exclude") or ()),
        dataset_mappers=tuple(
            (re.compile(pattern), replacement)
            for pattern, replacement in (settings.get("dataset_mappers") or {}).items()
        ),
    )


def _team_file(team: str, config: str | None) -> Path | None:
    """The file of a team; `None` where nothing was asked for and nothing is there."""
    if config and not Path(config).expanduser().is_dir():
        file = Path(config).expanduser()
        if not file.is_file():
            raise ConfigError(
                f"AUDIOCRAFT_CONFIG is {config}, where there is nothing. "
                "Give a team's YAML file or a configuration folder, or unset it."
            )
        return file
    teams = (Path(config).expanduser() if config else ROOT / "config") / "teams"
    file = teams / f"{team}.yaml"
    if file.is_file():
        return file
    if team != "default":
        raise ConfigError(
            f"AUDIOCRAFT_TEAM is {team!r} but there is no {file}. Write it, or choose one of: "
            f"{', '.join(sorted(path.stem for path in teams.glob('*.yaml'))) or 'none yet'}."
        )
    return None


def _read_sections(file: Path) -> dict[str, dict[str, tp.Any]]:
    """Cluster names and their settings."""
    sections = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if not isinstance(sections, dict) or not all(isinstance(s, dict) for s in sections.values()):
        raise ConfigError(f"{file} must map names of clusters to settings, as teams/default.yaml.")
    return tp.cast(dict[str, dict[str, tp.Any]], sections)


def _pick_cluster(
    sections: dict[str, dict[str, tp.Any]], named: str | None, file: Path | None
) -> tuple[str, dict[str, tp.Any]]:
    """The cluster and its settings; one that was only guessed falls back to `default`."""
    if named and named != "default" and named not in sections:
        raise ConfigError(
            f"AUDIOCRAFT_CLUSTER is {named!r}, of which {file or 'no file'} says nothing. "
            f"Choose one of: {', '.join(sorted(sections)) or 'default'}."
        )
    cluster = named or _guess_cluster()
    return cluster, sections.get(cluster) or sections.get("default") or {}


def _guess_cluster() -> str:
    if sys.platform == "darwin":
        return "darwin"
    return "slurm" if shutil.which("sbatch") else "default"


@cache
def environment() -> Environment:
    """The settings of this process, read once."""
    return read_environment(os.environ)


class AudioCraftEnvironment:
    """The same settings, under the names that scripts and grids use."""

    @classmethod
    def get_team(cls) -> str:
        return environment().team

    @classmethod
    def get_cluster(cls) -> str:
        return environment().cluster

    @classmethod
    def get_dora_dir(cls) -> Path:
        """The folder of experiments, absolute."""
        return environment().dora_dir

    @classmethod
    def get_reference_dir(cls) -> Path:
        """What `//reference/` stands for, absolute."""
        return environment().reference_dir

    @classmethod
    def get_cache_dir(cls) -> Path:
        """The folder of what can be computed again, absolute."""
        return environment().cache_dir

    @classmethod
    def resolve_reference_path(cls, path: str | Path) -> Path:
        """Turn `//reference/NAME` into a path below the reference folder; others stay."""
        if str(path).startswith(REFERENCE):
            return cls.get_reference_dir() / str(path).removeprefix(REFERENCE)
        return Path(path)

    @classmethod
    def resolve_source_path(cls, path: str | Path) -> Path:
        """Resolve a data source: `//reference/NAME`, or a path.

        A relative path counts from the current directory or, where nothing is there, from the
        package's own folder, so that the default `egs/example/…` is found from everywhere.
        """
        path = cls.resolve_reference_path(path)
        return ROOT / path if not path.exists() and (ROOT / path).exists() else path

    @classmethod
    def get_slurm_partitions(cls, kinds: tp.Sequence[str] = ("team", "global")) -> str | None:
        """Names of the partitions to ask for, comma separated; `None` is the cluster's own.

        Args:
            kinds: Keys of `partitions` in the team's file, the preferred one first.
        """
        names = [environment().partitions.get(kind) for kind in kinds]
        return ",".join(dict.fromkeys(name for name in names if name)) or None

    @classmethod
    def get_slurm_exclude(cls) -> str | None:
        """Nodes to avoid, comma separated; `None` if there are none."""
        return ",".join(environment().slurm_exclude) or None

    @classmethod
    def get_dataset_mappers(cls) -> dict[re.Pattern[str], str]:
        """What to replace in the paths of manifests on this cluster."""
        return dict(environment().dataset_mappers)

    @classmethod
    def apply_dataset_mappers(cls, path: str) -> str:
        """Turn a path of a manifest into one of this cluster."""
        for pattern, replacement in environment().dataset_mappers:
            path = pattern.sub(replacement, path)
        return path
