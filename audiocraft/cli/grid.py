"""`audiocraft grid NAME`: run the experiments of a grid, on SLURM or on this machine."""

import os
import sys
import typing as tp

from dora.grid import _filter_grid_sheeps
from dora.main import DecoratedMain
from dora.shep import Sheep

from ..errors import ConfigError
from ..launch.explorer import grid_notes, log_grid
from ..launch.grid_file import load_explorer, read_experiments
from ..launch.local import FAILED, LocalGrid
from ..solvers.experiment import check_output_folder
from .experiment import get_experiment
from .parser import CommandParser


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "grid",
        "Run the experiments of a grid. Without --local this is `dora grid`, which submits them "
        "to SLURM and whose options are accepted as well.",
    )
    parser.add_argument("grid", help="name of the grid, such as musicgen.musicgen_style_tiny")
    parser.add_argument(
        "patterns",
        nargs="*",
        help="select experiments: words in their names, or their numbers among those selected",
    )
    parser.add_argument("--local", action="store_true", help="run on this machine")
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="with --local: experiments that run at the same time [default: 1]",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the experiments")
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = get_parser()
    args, others = parser.parse_known_intermixed_args(argv)
    experiment = get_experiment()
    explorer = load_explorer(experiment, args.grid)
    if not args.local:
        if args.parallel is not None:
            raise ConfigError(
                "--parallel needs --local; on SLURM, the cluster decides how many jobs run."
            )
        dora = [sys.executable, "-m", "dora", "-P", "audiocraft", "grid", *for_dora(argv)]
        os.execv(sys.executable, dora)
    if others:
        parser.error(f"--local does not accept {' '.join(others)}")

    check_output_folder(experiment.dora.dir)
    sheeps, listed = read_experiments(experiment, explorer, args.grid)
    for line in grid_notes([s.xp.sig for s in sheeps], listed, experiment.dora, args.grid):
        log_grid(line)
    sheeps = select_experiments(experiment, sheeps, args.patterns)
    if not sheeps:
        raise ConfigError(
            f"The grid {args.grid} has no experiment that matches {' '.join(args.patterns)}."
        )
    grid = LocalGrid(experiment, sheeps, 1 if args.parallel is None else args.parallel)
    if args.dry_run:
        grid.show(explorer)
        return 0
    link_experiments(experiment, args.grid, sheeps)
    status = grid.run()
    grid.show(explorer)
    log_unfinished(grid, args.grid)
    return status


def for_dora(argv: tp.Sequence[str]) -> list[str]:
    """The arguments with Dora's names of options, which have underscores."""
    return [arg if not arg.startswith("--") else f"--{arg[2:].replace('-', '_')}" for arg in argv]


def select_experiments(
    experiment: DecoratedMain, sheeps: list[Sheep], patterns: list[str]
) -> list[Sheep]:
    """Select experiments by words in their names, and by numbers among those."""
    try:
        return _filter_grid_sheeps(list(patterns), experiment, sheeps)
    except IndexError:  # a number out of range
        return []


def link_experiments(experiment: DecoratedMain, name: str, sheeps: list[Sheep]) -> None:
    """Link the experiments of a grid in its folder, as Dora does."""
    folder = experiment.dora.dir / experiment.dora._grids / name
    folder.mkdir(parents=True, exist_ok=True)
    for sheep in sheeps:
        place = folder / sheep.xp.sig
        if not place.is_symlink():
            place.symlink_to(sheep.xp.folder)


def log_unfinished(grid: LocalGrid, name: str) -> None:
    """Print the experiments that are not done, and the command that resumes them."""
    unfinished = [run for run in grid.runs if run.note]
    for run in unfinished:
        log = f" (log: {run.log})" if run.status == FAILED else ""
        log_grid(f"{run.xp.sig} {run.status}: {run.note}{log}")
    if unfinished:
        log_grid(f"To resume them: audiocraft grid {name} --local")
