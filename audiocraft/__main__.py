"""`python -m audiocraft COMMAND …`: what is done with data and models beside training.

Every command has `--help`. A mistake is told in one sentence; `HYDRA_FULL_ERROR=1` shows the
traceback.
"""

import io
import os
import sys
import typing as tp
from functools import partial
from importlib import import_module

from dora._utils import get_main
from dora.main import DecoratedMain

from .environment import config_dir
from .errors import AudiocraftError, ConfigError


def experiment() -> DecoratedMain:
    """The entry point of experiments; an installed package without `config/` has none.

    Raises:
        ConfigError: There is no configuration.
    """
    if not (config_dir() / "config.yaml").is_file():
        raise ConfigError(
            f"There is no configuration in {config_dir()}. Start from a checkout of the "
            "repository, or set AUDIOCRAFT_CONFIG to its folder `config`."
        )
    return get_main("train", "audiocraft")


# The modules of the commands, imported when they are called: each needs but a part of the package.
COMMANDS = {
    "doctor": "cli.doctor",
    "encode-dataset": "cli.encode_dataset",
    "export": "cli.export",
    "fit-tokenizer": "solvers.fit_spectral",
    "generate": "cli.generate",
    "grid": "cli.grid",
    "manifest": "data.audio_dataset",
    "prepare": "data.prepare.pipeline",
    "steering": "cli.condition_sensitivity",
    "validate": "data.prepare.validate",
}
ABOUT_EXPERIMENTS = {"doctor", "grid"}


def command_of(name: str) -> tp.Callable[[tp.Sequence[str]], tp.Any]:
    """What runs a command; takes its arguments, and may return an exit status."""
    run = import_module(f".{COMMANDS[name]}", __package__).main
    return partial(run, experiment) if name in ABOUT_EXPERIMENTS else run


def main(argv: tp.Sequence[str]) -> None:
    """Run the command that the first argument names."""
    if not argv or argv[0] not in COMMANDS:
        wanted = f"{argv[0]!r} is no command. " if argv and argv[0] not in ("-h", "--help") else ""
        print(f"{wanted}Usage: python -m audiocraft {{{','.join(COMMANDS)}}} …  (each has --help)")
        sys.exit(2 if wanted else 0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command_of(argv[0])(argv[1:])
    except AudiocraftError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped.")
        status = 130
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
