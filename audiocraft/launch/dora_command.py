"""What a command line of Dora needs, seen to before Dora does.

Dora imports the file of a grid, and makes folders for jobs, before it asks our entry point
anything; what fails there it shows as a traceback, or as a failure without a reason.
"""

from pathlib import Path

from dora.__main__ import get_parser
from dora.main import DecoratedMain

from ..solvers.experiment import check_output_folder
from .grid_file import load_explorer

WITH_FOLDERS = ("grid", "info", "launch")  # commands that make folders for jobs


def is_dora(argv: list[str]) -> bool:
    """Whether a command line is one of Dora's: `dora …` or `python -m dora …`."""
    program = Path(argv[0])
    return program.stem == "dora" or program.parts[-2:] == ("dora", "__main__.py")


def check_command(main: DecoratedMain, argv: list[str]) -> None:
    """See that a command line of Dora finds its grid, and a folder to write to.

    Raises:
        ConfigError: It does not; the message says where the grid's file is wrong, or why nothing
            can be written.
    """
    args = get_parser().parse_args(argv[1:])
    if args.command == "grid":
        if args.grid is None:  # Dora lists them
            return
        load_explorer(main, args.grid)
    if args.command in WITH_FOLDERS:
        check_output_folder(main.dora.dir)
