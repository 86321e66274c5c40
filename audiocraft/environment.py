"""Environment: folders and SLURM settings of a machine, which are not part of an experiment.

A team defines them in `config/teams/TEAM.yaml`, one section per cluster; environment variables
take precedence:

    AUDIOCRAFT_TEAM           file in `config/teams` (`default`)
    AUDIOCRAFT_CLUSTER        section of that file (guessed)
    AUDIOCRAFT_CONFIG         another such file, or a folder that replaces `config`
    AUDIOCRAFT_DORA_DIR       folder of experiments
    AUDIOCRAFT_REFERENCE_DIR  folder that `//reference/…` refers to
    AUDIOCRAFT_CACHE_DIR      folder of files that can be computed again

They are read once, at the first use. Folders in a team's file are relative to the root of a
checkout or, with an installed package, to the current directory.
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
    """Settings of a team on a cluster. Folders are absolute."""

    team: str
    cluster: str
    dora_dir: Path
    reference_dir: Path
    cache_dir: Path
    partitions: dict[str, str | None]  # kind -> name; None is the cluster's default
    slurm_exclude: tuple[str, ...]  # excluded nodes
    dataset_mappers: tuple[tuple[re.Pattern[str], str], ...]  # replacements in paths of manifests


def config_dir() -> Path:
    """Folder of the configuration: AUDIOCRAFT_CONFIG, else that of the package."""
    chosen = Path(os.environ.get("AUDIOCRAFT_CONFIG") or ROOT / "config").expanduser()
    return chosen.absolute() if chosen.is_dir() else ROOT / "config"


def bundled_dir() -> Path:
    """Folder of the bundled models and audio."""
    return ROOT / "assets"


def grid_package(name: str) -> str:
    """Return the package of grids with this name: importable as it is, else part of the wheel."""
    add_checkout_to_path()
    return name if importlib.util.find_spec(name) is not None else f"{__package__}.{name}"


def add_checkout_to_path() -> None:
    """Make `grids` and `demos` of a checkout importable from any current directory."""
    if ROOT != PACKAGE and str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


def read_environment(variables: tp.Mapping[str, str]) -> Environment:
    """Read the settings from a team's file and the environment.

    Args:
        variables: Environment variables, as in `os.environ`.

    Raises:
        ConfigError: The named team, its file, or the named cluster does not exist.
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
    """File of a team; `None` if it is the default team and has none."""
    if config and not Path(config).expanduser().is_dir():
        file = Path(config).expanduser()
        if not file.is_file():
            raise ConfigError(
                f"AUDIOCRAFT_CONFIG is {config}, which does not exist. Set it to a team's YAML "
                "file or a configuration folder, or unset it."
            )
        return file
    teams = (Path(config).expanduser() if config else ROOT / "config") / "teams"
    file = teams / f"{team}.yaml"
    if file.is_file():
        return file
    if team != "default":
        raise ConfigError(
            f"AUDIOCRAFT_TEAM is {team!r} but {file} does not exist. Create it, or choose one of: "
            f"{', '.join(sorted(path.stem for path in teams.glob('*.yaml'))) or 'none'}."
        )
    return None


def _read_sections(file: Path) -> dict[str, dict[str, tp.Any]]:
    """Read the settings of each cluster."""
    sections = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if not isinstance(sections, dict) or not all(isinstance(s, dict) for s in sections.values()):
        raise ConfigError(f"{file} must map clusters to their settings, like teams/default.yaml.")
    return tp.cast(dict[str, dict[str, tp.Any]], sections)


def _pick_cluster(
    sections: dict[str, dict[str, tp.Any]], named: str | None, file: Path | None
) -> tuple[str, dict[str, tp.Any]]:
    """Name and settings of the cluster; a guessed one without section uses `default`."""
    if named and named != "default" and named not in sections:
        raise ConfigError(
            f"AUDIOCRAFT_CLUSTER is {named!r}, which is not a section of {file or 'any file'}. "
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
    """Settings of this process, read once."""
    return read_environment(os.environ)


class AudioCraftEnvironment:
    """Public access to the settings, for scripts and grids."""

    @classmethod
    def get_team(cls) -> str:
        return environment().team

    @classmethod
    def get_cluster(cls) -> str:
        return environment().cluster

    @classmethod
    def get_dora_dir(cls) -> Path:
        """Folder of experiments, absolute."""
        return environment().dora_dir

    @classmethod
    def get_reference_dir(cls) -> Path:
        """Folder that `//reference/` refers to, absolute."""
        return environment().reference_dir

    @classmethod
    def get_cache_dir(cls) -> Path:
        """Folder of files that can be computed again, absolute."""
        return environment().cache_dir

    @classmethod
    def resolve_reference_path(cls, path: str | Path) -> Path:
        """Resolve `//reference/NAME` to a path below the reference folder; keep other paths."""
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
        """Names of the SLURM partitions to use, comma separated; `None` is the cluster's default.

        Args:
            kinds: Keys of `partitions` in the team's file, in order of preference.
        """
        names = [environment().partitions.get(kind) for kind in kinds]
        return ",".join(dict.fromkeys(name for name in names if name)) or None

    @classmethod
    def get_slurm_exclude(cls) -> str | None:
        """Excluded nodes, comma separated; `None` if there are none."""
        return ",".join(environment().slurm_exclude) or None

    @classmethod
    def get_dataset_mappers(cls) -> dict[re.Pattern[str], str]:
        """Replacements in paths of manifests on this cluster, regular expression to text."""
        return dict(environment().dataset_mappers)

    @classmethod
    def apply_dataset_mappers(cls, path: str) -> str:
        """Apply the replacements to a path of a manifest."""
        for pattern, replacement in environment().dataset_mappers:
            path = pattern.sub(replacement, path)
        return path
