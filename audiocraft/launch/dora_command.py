"""Checks of a Dora command line before Dora runs it.

Dora imports the file of a grid and creates folders for jobs before it calls our entry point, and
shows what fails there as a traceback or without a reason.
"""

from pathlib import Path

from dora.__main__ import get_parser
from dora.main import DecoratedMain

from ..solvers.experiment import check_output_folder
from .grid_file import load_explorer

COMMANDS_WITH_FOLDERS = ("grid", "info", "launch")  # they create folders for jobs


def is_dora(argv: list[str]) -> bool:
    """Whether a command line is one of Dora's: `dora …` or `python -m dora …`."""
    program = Path(argv[0])
    return program.stem == "dora" or program.parts[-2:] == ("dora", "__main__.py")


def check_command(main: DecoratedMain, argv: list[str]) -> None:
    """Check that the grid of a Dora command line can be read, and its folders written.

    Raises:
        ConfigError: The grid has an error, or the output folder is not writable.
    """
    args = get_parser().parse_args(argv[1:])
    if args.command == "grid":
        if args.grid is None:  # Dora lists them
            return
        load_explorer(main, args.grid)
    if args.command in COMMANDS_WITH_FOLDERS:
        check_output_folder(main.dora.dir)
