"""Command line: `audiocraft COMMAND …`, which is also `python -m audiocraft COMMAND …`.

A command is a module of this folder with a function `main(argv)` that returns an exit status or
`None`. Modules are imported when they are called, since each needs only a part of the package.
An error of a user is printed in one sentence; `HYDRA_FULL_ERROR=1` adds the traceback.
"""

import io
import os
import sys
import typing as tp
from importlib import import_module

from ..errors import AudiocraftError


class Command(tp.NamedTuple):
    """Entry of the command table."""

    module: str  # relative to the package `audiocraft`
    summary: str
    resumes: bool = False  # the same command continues what was interrupted


COMMANDS = {
    "prepare": Command("cli.prepare", "turn a folder or table of music into a data set", True),
    "validate": Command("cli.validate", "check every file of a manifest"),
    "manifest": Command("cli.manifest", "write the manifest of a folder of audio", True),
    "encode-dataset": Command("cli.encode_dataset", "encode a data set to tokens, once", True),
    "doctor": Command("cli.doctor", "report what a training run will do, before it starts"),
    "grid": Command("cli.grid", "run a grid of experiments, on this machine or on SLURM", True),
    "export": Command("cli.export", "write an experiment as a folder for get_pretrained"),
    "generate": Command("cli.generate", "generate music from text, a style clip or both", True),
    "demo": Command("cli.demo", "serve the web page"),
    "condition-sensitivity": Command(
        "cli.condition_sensitivity", "measure how much the conditions lower the cross entropy"
    ),
    "fit-tokenizer": Command("cli.fit_tokenizer", "fit a spectral tokenizer to music"),
}
ALIASES = {"steering": "condition-sensitivity"}  # former names


def usage() -> str:
    """The overview of all commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: audiocraft COMMAND …  (each has --help)", "", *lines])


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return
    name = ALIASES.get(argv[0], argv[0])
    if name not in COMMANDS:
        print(f"error: {name!r} is not a command.\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold any character
        sys.stdout.reconfigure(errors="backslashreplace")
    status = run(COMMANDS[name], argv[1:])
    if status:
        sys.exit(status)


def run(command: Command, argv: tp.Sequence[str]) -> int | None:
    """Import and run a command; returns its exit status."""
    try:
        return import_module(f"audiocraft.{command.module}").main(argv)
    except AudiocraftError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped. The same command resumes." if command.resumes else "Stopped.")
        return 130
