"""`audiocraft export`: write an experiment as a folder that `MusicGen.get_pretrained` loads."""

import typing as tp
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..models.loaders import COMPRESSION_FILES, LM_FILES, find_model_file
from ..models.weights.hub import BUNDLED, PRETRAINED, expand_signature, hub_id
from ..utils.checkpoint_files import read_checkpoint_file
from ..utils.export import export_encodec, export_lm, export_pretrained_compression_model
from ..utils.hydra_quoting import override
from .parser import CommandParser

SUFFIXES = {"release": ".bin", "safetensors": ".safetensors"}


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "export", "Write the best weights of an experiment as a folder that get_pretrained loads."
    )
    parser.add_argument("experiment", help="SIG, //sig/SIG, path of a checkpoint, or a hub id")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--format",
        choices=list(SUFFIXES),
        default="release",
        help="release: .bin files as in the published models; safetensors: no pickle",
    )
    parser.add_argument("--half", action="store_true", help="weights of the model in float16")
    return parser


def main(argv: tp.Sequence[str]) -> None:
    """Run the command."""
    args = get_parser().parse_args(argv)
    dtype = torch.float16 if args.half else None
    files = export_model(args.experiment, args.out, SUFFIXES[args.format], dtype)
    for file in files:
        print(f"{file} ({file.stat().st_size / 1e6:.3g} MB)")
    if any(file.stem == "state_dict" for file in files):
        print(f"To use it: MusicGen.get_pretrained({str(args.out)!r})")
    else:
        print(f"To use it: {override('compression_model_checkpoint', str(args.out))}")


def export_model(
    experiment: str, out: Path, suffix: str, dtype: torch.dtype | None = None
) -> list[Path]:
    """Export a language model with its tokenizer, or a tokenizer alone.

    Args:
        experiment: Signature, or any name that `find_model_file` accepts.
        out: Folder to write.
        suffix: `.bin` or `.safetensors`.
        dtype: Type of the language model's weights; `None` keeps that of the checkpoint.

    Raises:
        CheckpointError: There is no such experiment, or the folder holds an export of the other
            format.
    """
    name = expand_signature(experiment)
    checkpoint = find_model_file(name, LM_FILES, beside=COMPRESSION_FILES)
    config = read_checkpoint_file(checkpoint).config
    _refuse_two_formats(out, suffix)
    if "transformer_lm" not in config:
        return [export_encodec(checkpoint, out / f"compression_state_dict{suffix}")]
    tokenizer = _tokenizer_of(name, checkpoint, config.get("compression_model_checkpoint"))
    out_file = out / f"compression_state_dict{suffix}"
    files = [export_lm(checkpoint, out / f"state_dict{suffix}", dtype)]
    if isinstance(tokenizer, Path):
        files.append(export_encodec(tokenizer, out_file))
    elif tokenizer is not None:
        files.append(export_pretrained_compression_model(tokenizer, out_file))
    return files


def _tokenizer_of(name: str, checkpoint: Path, reference: str | None) -> Path | str | None:
    """The tokenizer of a language model: a name if it is published elsewhere, else its file."""
    beside = [checkpoint.with_name(filename) for filename in COMPRESSION_FILES]
    own = next((file for file in beside if file.is_file()), None)
    if own is not None:
        return own
    if hub_id(name) is not None:
        return find_model_file(name, COMPRESSION_FILES)
    if reference is None or reference.startswith((PRETRAINED, BUNDLED)) or hub_id(reference):
        return reference
    return find_model_file(reference, COMPRESSION_FILES)


def _refuse_two_formats(out: Path, suffix: str) -> None:
    """Check that the folder has no export of the other format, which might be loaded instead."""
    for other in set(SUFFIXES.values()) - {suffix}:
        for stem in ("state_dict", "compression_state_dict"):
            file = out / f"{stem}{other}"
            if file.exists():
                raise CheckpointError(
                    f"{file} belongs to another export. Remove it, or choose another folder."
                )
