"""`python -m audiocraft COMMAND …`: what is done with data and models beside training.

Every command has `--help`. A mistake is told in one sentence; `HYDRA_FULL_ERROR=1` shows the
traceback.
"""

import argparse
import os
import sys
import typing as tp
from pathlib import Path

from .data import audio_dataset
from .errors import AudiocraftError
from .models import fit_spectral
from .models.hub import SIGNATURE, local_path
from .utils.export import export_lm, export_pretrained_compression_model
from .utils.packages import read_package


def export(argv: tp.Sequence[str]) -> None:
    """Write the best weights of an experiment as a folder that `get_pretrained` loads."""
    parser = argparse.ArgumentParser("python -m audiocraft export", description=export.__doc__)
    parser.add_argument("experiment", help="signature of an experiment, or path of a checkpoint")
    parser.add_argument("out", type=Path, help="folder to write")
    args = parser.parse_args(argv)
    is_path = Path(args.experiment).exists()
    checkpoint = local_path(args.experiment if is_path else SIGNATURE + args.experiment)
    tokenizer = read_package(checkpoint).config.get("compression_model_checkpoint")
    export_lm(checkpoint, args.out / "state_dict.bin")
    if tokenizer:
        export_pretrained_compression_model(tokenizer, args.out / "compression_state_dict.bin")
    print(f"Exported to {args.out}: MusicGen.get_pretrained({str(args.out)!r})")


COMMANDS: dict[str, tp.Callable[[tp.Sequence[str]], tp.Any]] = {
    "export": export,
    "fit-tokenizer": fit_spectral.main,
    "manifest": audio_dataset.main,
}


def main(argv: tp.Sequence[str]) -> None:
    """Run the command that the first argument names."""
    if not argv or argv[0] not in COMMANDS:
        wanted = f"{argv[0]!r} is no command. " if argv and argv[0] not in ("-h", "--help") else ""
        print(f"{wanted}Usage: python -m audiocraft {{{','.join(COMMANDS)}}} …  (each has --help)")
        sys.exit(2 if wanted else 0)
    try:
        COMMANDS[argv[0]](argv[1:])
    except AudiocraftError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
