"""`python -m audiocraft COMMAND …`: what is done with data and models beside training.

Every command has `--help`. A mistake is told in one sentence; `HYDRA_FULL_ERROR=1` shows the
traceback.
"""

import io
import os
import sys
import typing as tp
from functools import partial

from dora._utils import get_main
from dora.main import DecoratedMain

from .data import audio_dataset, prepare, validate
from .environment import config_dir
from .errors import AudiocraftError, ConfigError
from .metrics import steering_command
from .models import encode_command, export_command, fit_spectral
from .solvers import doctor
from .solvers.grids import command as grid_command
from .studio import command as studio_command


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


COMMANDS: dict[str, tp.Callable[[tp.Sequence[str]], tp.Any]] = {
    "doctor": partial(doctor.main, experiment),
    "encode-dataset": encode_command.main,
    "export": export_command.main,
    "fit-tokenizer": fit_spectral.main,
    "generate": studio_command.main,
    "grid": partial(grid_command.main, experiment),
    "manifest": audio_dataset.main,
    "prepare": prepare.main,
    "steering": steering_command.main,
    "validate": validate.main,
}


def main(argv: tp.Sequence[str]) -> None:
    """Run the command that the first argument names."""
    if not argv or argv[0] not in COMMANDS:
        wanted = f"{argv[0]!r} is no command. " if argv and argv[0] not in ("-h", "--help") else ""
        print(f"{wanted}Usage: python -m audiocraft {{{','.join(COMMANDS)}}} …  (each has --help)")
        sys.exit(2 if wanted else 0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = COMMANDS[argv[0]](argv[1:])
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
