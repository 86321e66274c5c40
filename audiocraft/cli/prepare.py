"""`audiocraft prepare`: turn a folder or table of music into a data set."""

import argparse
import os
import typing as tp
from pathlib import Path

from ..data.prepare.pipeline import SHARES, SplitOptions, prepare
from ..data.prepare.sources import COLUMN_NAMES
from .parser import CommandParser


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "prepare",
        "Turn music into a data set: audio, a JSON file of metadata for each file, and a manifest "
        "per split. No music is in two splits.",
    )
    parser.add_argument(
        "source",
        type=Path,
        help="a folder of audio with .txt or .json beside it; a table (.csv, .tsv, .jsonl, "
        ".parquet); or the folder of a Hugging Face data set",
    )
    parser.add_argument("out", type=Path, help="folder of the data set")
    parser.add_argument(
        "--by",
        default="artist",
        metavar="FIELD",
        help="field whose values are never in two splits: artist, piece, folder, or a column",
    )
    for split, share in SHARES.items():
        parser.add_argument(
            f"--{split}", type=float, default=share, metavar="SHARE", help=f"share of {split}"
        )
    parser.add_argument("--seed", type=int, default=0, help="seed of the splits")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="FIELD=NAME",
        help=f"column of a table that holds a field ({', '.join(COLUMN_NAMES)}); may be repeated",
    )
    parser.add_argument("--link", action="store_true", help="make hard links instead of copies")
    parser.add_argument(
        "--report", action="store_true", help="measure loudness and silence: OUT/report.json"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0: none"
    )
    return parser


def main(argv: tp.Sequence[str]) -> None:
    """Run the command."""
    args = get_parser().parse_args(argv)
    shares = {split: getattr(args, split) for split in SHARES}
    prepare(
        args.source,
        args.out,
        SplitOptions(by=args.by, shares=shares, seed=args.seed),
        columns=dict(args.column),
        link=args.link,
        report=args.report,
        workers=args.workers,
    )


def _column(text: str) -> tuple[str, str]:
    field, equals, name = text.partition("=")
    if not (field and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=NAME")
    return field, name
