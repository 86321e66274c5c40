"""Grid files: the experiments that they list, and errors with their line.

The same files serve `dora grid`, which submits to SLURM, and `audiocraft grid --local`.
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
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..errors import AudiocraftError, ConfigError


class OverrideComposer:
    """In place of Dora's shepherd: composes experiments from overrides, submits nothing.

    Args:
        main: Entry point of experiments; its method `resolve` composes one.
        grid: Name of the grid, for error messages.
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


def check_no_sweep(argv: tp.Sequence[str]) -> None:
    """Check that no override lists several values, as in Hydra's sweeps, which Dora cannot run.

    Raises:
        ConfigError: An override does, or `--multirun` is given.
    """
    for arg in argv:
        if arg in ("-m", "--multirun") or _is_sweep(arg):
            raise ConfigError(
                f"{arg} requests a sweep. Sweeps are grids: write grids/NAME.py with a function "
                "such as `@LMExplorer` `def explorer(launcher):` `for lr in (1e-3, 2e-3):` "
                "`launcher({'solver': 'musicgen/musicgen_style_tiny', 'optim.lr': lr})`, as in "
                "grids/musicgen/musicgen_style_tiny.py, and start it with `audiocraft grid NAME "
                "--local`, or `dora grid NAME` on SLURM. A value that has a comma needs quotes."
            )


def _is_sweep(override: str) -> bool:
    try:
        return OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:  # reported when the configuration is composed
        return False


def load_explorer(main: DecoratedMain, name: str) -> Explorer:
    """Import a grid file.

    Args:
        main: Entry point of experiments; its Dora configuration names the package of grids.
        name: Name of the grid, such as `musicgen.musicgen_style_32khz`.

    Raises:
        ConfigError: There is no such grid, or its file has an error; the message says where.
    """
    package = main.dora.grid_package or f"{main.package}.grids"
    folder = _folder_of(package)
    file = folder / f"{name.replace('.', '/')}.py"
    if not file.is_file():
        known = ", ".join(list_grids(folder))
        raise ConfigError(f"There is no grid {name!r} ({file} is missing). Grids are: {known}.")
    try:
        module = importlib.import_module(f"{package}.{name}")
    except Exception as error:
        raise ConfigError(
            f"The grid {name} cannot be read: {error_location(error, file)}"
        ) from error
    explorer = getattr(module, "explorer", None)
    if not isinstance(explorer, Explorer):
        raise ConfigError(
            f"{file} defines no grid. Define a function `explorer(launcher)`, decorated with an "
            "explorer such as @LMExplorer; see docs/EXPERIMENTS.md."
        )
    return explorer


def read_experiments(main: DecoratedMain, explorer: Explorer, name: str) -> tuple[list[Sheep], int]:
    """Return the experiments of a grid without duplicates, and the number that it lists.

    Raises:
        ConfigError: The file has an error, or an experiment cannot be composed.
    """
    listed: list[tp.Sequence[str]] = []

    class CountingComposer(OverrideComposer):
        def get_sheep_from_argv(self, argv: tp.Sequence[str]) -> Sheep:
            listed.append(argv)
            return super().get_sheep_from_argv(argv)

    herd = Herd()
    launcher = Launcher(tp.cast(tp.Any, CountingComposer(main, name)), SlurmConfig(), herd)
    try:
        explorer.explore(launcher)
    except AudiocraftError:
        raise
    except Exception as error:
        place = error_location(error, grid_file_of(explorer))
        raise ConfigError(f"The grid {name} has an error: {place}") from error
    return list(herd.sheeps.values()), len(listed)


def list_grids(folder: Path) -> list[str]:
    """Names of all grids in the folder of a package."""
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    return sorted(".".join(file.parts) for file in files if not file.name.startswith("_"))


def grid_file_of(explorer: Explorer) -> Path:
    """The file that defines a grid."""
    return Path(explorer.explore.__code__.co_filename)  # type: ignore[attr-defined]


def error_location(error: Exception, file: Path) -> str:
    """Describe an error with the line of the grid file that led to it."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    place = f"{file}, line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {error}"


def _folder_of(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of a parent package
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"dora.grid_package is {package!r} but there is no such package. Start from the folder "
            "that has it, such as the root of the repository."
        )
    return Path(next(iter(spec.submodule_search_locations)))
