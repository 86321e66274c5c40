"""Reading a grid file: which experiments it asks for, and what is wrong with it, in a sentence.

The same files serve `dora grid`, which submits to SLURM, and `python -m audiocraft grid --local`.
"""

import importlib
import importlib.util
import traceback
import typing as tp
from pathlib import Path

from dora import Explorer
from dora.conf import SlurmConfig
from dora.explore import Herd, Launcher
from dora.main import DecoratedMain
from dora.shep import Sheep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..errors import AudiocraftError, ConfigError


class Composer:
    """Stands where Dora's launcher expects a shepherd, and only turns overrides into experiments.

    Args:
        main: The entry point of experiments; its method `resolve` composes one.
        grid: Name of the grid, for errors.
    """

    def __init__(self, main: tp.Any, grid: str):
        self.main = main
        self.grid = grid

    def get_sheep_from_argv(self, argv: tp.Sequence[str]) -> Sheep:
        try:
            return Sheep(self.main.resolve(argv))
        except (HydraException, OmegaConfBaseException, AudiocraftError, AssertionError) as error:
            raise ConfigError(
                f"The grid {self.grid} has an experiment that cannot be composed: {error} "
                f"(its settings: {' '.join(argv)})"
            ) from error


def load_explorer(main: DecoratedMain, name: str) -> Explorer:
    """The explorer of a grid file.

    Args:
        main: Knows the package in which grids are.
        name: As on the command line, such as `musicgen.musicgen_style_32khz`.

    Raises:
        ConfigError: There is no such grid, or its file has an error; the message says where.
    """
    package = main.dora.grid_package or f"{main.package}.grids"
    folder = _folder_of(package)
    file = folder / f"{name.replace('.', '/')}.py"
    if not file.is_file():
        known = ", ".join(names_of_grids(folder))
        raise ConfigError(f"There is no grid {name!r} ({file} is missing). Grids are: {known}.")
    try:
        module = importlib.import_module(f"{package}.{name}")
    except Exception as error:
        raise ConfigError(f"The grid {name} cannot be read: {where(error, file)}") from error
    explorer = getattr(module, "explorer", None)
    if not isinstance(explorer, Explorer):
        raise ConfigError(
            f"{file} defines no grid. It needs a function `explorer(launcher)` with an explorer "
            "such as @LMExplorer above it; see docs/EXPERIMENTS.md."
        )
    return explorer


def read_experiments(main: DecoratedMain, explorer: Explorer, name: str) -> tuple[list[Sheep], int]:
    """The experiments of a grid, each once, and how many the file asks for.

    Raises:
        ConfigError: The file has an error, or an experiment cannot be composed.
    """
    asked: list[tp.Sequence[str]] = []

    class Counting(Composer):
        def get_sheep_from_argv(self, argv: tp.Sequence[str]) -> Sheep:
            asked.append(argv)
            return super().get_sheep_from_argv(argv)

    herd = Herd()
    launcher = Launcher(tp.cast(tp.Any, Counting(main, name)), SlurmConfig(), herd)
    try:
        explorer.explore(launcher)
    except AudiocraftError:
        raise
    except Exception as error:
        place = where(error, file_of(explorer))
        raise ConfigError(f"The grid {name} has an error: {place}") from error
    return list(herd.sheeps.values()), len(asked)


def names_of_grids(folder: Path) -> list[str]:
    """Names of all grids below the folder of a package."""
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    return sorted(".".join(file.parts) for file in files if not file.name.startswith("_"))


def file_of(explorer: Explorer) -> Path:
    """The file that defines a grid."""
    return Path(explorer.explore.__code__.co_filename)  # type: ignore[attr-defined]


def where(error: Exception, file: Path) -> str:
    """An error with the last line of a file that led to it."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    place = f"{file}, line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {error}"


def _folder_of(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of a package around it
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"There is no package {package!r}, in which grids are kept (dora.grid_package). Start "
            "from the root of the repository."
        )
    return Path(next(iter(spec.submodule_search_locations)))
