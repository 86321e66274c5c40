"""`python -m audiocraft grid NAME`: the experiments of a grid, on SLURM or on this machine."""

import argparse
import os
import sys
import typing as tp

from dora.grid import _filter_grid_sheeps
from dora.main import DecoratedMain
from dora.shep import Sheep

from ..errors import ConfigError
from ..launch.explorer import remarks, say
from ..launch.grid_file import load_explorer, read_experiments
from ..launch.local import FAILED, LocalGrid
from ..solvers.experiment import check_output_folder


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        "python -m audiocraft grid",
        description="Run the experiments of a grid. Without --local it is `dora grid`, whose "
        "options follow: the experiments are submitted to SLURM.",
    )
    options.add_argument("grid", help="such as musicgen.musicgen_style_tiny")
    options.add_argument(
        "patterns", nargs="*", help="run only those with these words in their name, or numbers"
    )
    options.add_argument("--local", action="store_true", help="run on this machine")
    options.add_argument(
        "--parallel", type=int, metavar="N", help="with --local: so many at a time (1)"
    )
    options.add_argument("--dry_run", action="store_true", help="only list the experiments")
    return options


def main(find: tp.Callable[[], DecoratedMain], argv: tp.Sequence[str]) -> int:
    """Run the command; returns the exit status.

    Args:
        find: Finds the entry point of experiments.
        argv: The command line, without the command.
    """
    options = parser()
    args, others = options.parse_known_intermixed_args(argv)
    experiment = find()
    explorer = load_explorer(experiment, args.grid)
    if not args.local:
        if args.parallel is not None:
            raise ConfigError("--parallel is for --local; SLURM runs what it has room for.")
        os.execv(sys.executable, [sys.executable, "-m", "dora", "grid", *argv])
    if others:
        options.error(f"--local does not know {' '.join(others)}")

    check_output_folder(experiment.dora.dir)
    sheeps, listed = read_experiments(experiment, explorer, args.grid)
    for line in remarks([s.xp.sig for s in sheeps], listed, experiment.dora, args.grid):
        say(line)
    sheeps = chosen(experiment, sheeps, args.patterns)
    if not sheeps:
        raise ConfigError(f"The grid {args.grid} has no such experiment.")
    grid = LocalGrid(experiment, sheeps, 1 if args.parallel is None else args.parallel)
    if args.dry_run:
        grid.show(explorer)
        return 0
    link(experiment, args.grid, sheeps)
    status = grid.run()
    grid.show(explorer)
    tell(grid, args.grid)
    return status


def chosen(experiment: DecoratedMain, sheeps: list[Sheep], patterns: list[str]) -> list[Sheep]:
    """The experiments of a grid that words, and numbers among those with the words, choose."""
    try:
        return _filter_grid_sheeps(list(patterns), experiment, sheeps)
    except IndexError:  # Dora's, of a number
        return []


def link(experiment: DecoratedMain, name: str, sheeps: list[Sheep]) -> None:
    """Note which experiments belong to a grid, as Dora does."""
    folder = experiment.dora.dir / experiment.dora._grids / name
    folder.mkdir(parents=True, exist_ok=True)
    for sheep in sheeps:
        place = folder / sheep.xp.sig
        if not place.is_symlink():
            place.symlink_to(sheep.xp.folder)


def tell(grid: LocalGrid, name: str) -> None:
    """Say what is not done, and what to do about it."""
    undone = [run for run in grid.runs if run.note]
    for run in undone:
        log = f" (log: {run.log})" if run.status == FAILED else ""
        say(f"{run.xp.sig} {run.status}: {run.note}{log}")
    if undone:
        say(f"What is not done goes on with: python -m audiocraft grid {name} --local")
