"""`audiocraft prepare`: turn a folder or table of music into a data set."""

import argparse
import math
import os
import shlex
import statistics
import typing as tp
from pathlib import Path

from ..data.prepare.pipeline import REST, SHARES, PreparedDataset, SplitOptions, prepare
from ..data.prepare.sources import COLUMN_NAMES
from ..utils.hydra_quoting import override
from .output import print_line
from .parser import CommandParser

MAX_LISTED = 10  # files that are named where there are many
SHORT = 2.0  # seconds; shorter files are listed
QUIET = -40.0  # LUFS; quieter files are listed
SILENT = 0.5  # share of the time; files that are silent for longer are listed


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
        help="field whose values are never in two splits: artist, track, folder, or a column",
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
    dataset = prepare(
        args.source,
        args.out,
        SplitOptions(by=args.by, shares=shares, seed=args.seed),
        columns=dict(args.column),
        link=args.link,
        report=args.report,
        workers=args.workers,
    )
    _print_findings(dataset, args.by)
    _print_splits(dataset, args.out)
    if args.report:
        _print_levels(dataset, args.out / "report.json")


def _print_findings(dataset: PreparedDataset, by: str) -> None:
    """Print the number of files that need attention."""
    tracks = dataset.tracks
    _print_files("left out", dataset.left_out)
    _print_files("metadata fields ignored", dataset.ignored_fields)
    without_text = sum(not track.source.fields.get("description") for track in tracks)
    if without_text:
        print_line(
            f"{without_text} of {len(tracks)} have no description, so the model cannot learn from "
            "their text. Put a sentence into a .txt file beside each."
        )
    short = [t.source.origin for t in tracks if t.statistics.duration < SHORT]
    _print_files(f"shorter than {SHORT:g} s", short)
    if dataset.num_ungrouped:
        print_line(f"{dataset.num_ungrouped} of {len(tracks)} have no {by}: each is its own group.")
    if dataset.num_duplicates:
        print_line(
            f"{dataset.num_duplicates} contain the same music as another, and share its split."
        )


def _print_splits(dataset: PreparedDataset, out: Path) -> None:
    """Print the size of each split, and the command that trains on them."""
    print_line(f"{'split':10} {'files':>8} {'groups':>8} {'hours':>8}")
    settings = []
    for split in (REST, *SHARES):
        tracks = dataset.in_split(split)
        if not tracks:
            continue
        hours = sum(track.statistics.duration for track in tracks) / 3600
        groups = len({track.group for track in tracks})
        print_line(f"{split:10} {len(tracks):8} {groups:8} {hours:8.2f}")
        folder = os.path.abspath(out / "egs" / split)
        settings.append(shlex.quote(override(f"datasource.{split}", folder)))
    print_line("Train with: dora run solver=musicgen/musicgen_style_tiny " + " ".join(settings))


def _print_levels(dataset: PreparedDataset, path: Path) -> None:
    """Print the range of loudness, and quiet and silent files."""
    tracks = dataset.tracks
    loudness = {t.source.origin: t.statistics.loudness for t in tracks}
    measured = sorted(value for value in loudness.values() if value is not None)
    if measured:
        print_line(
            f"Loudness: median {statistics.median(measured):.1f} LUFS, from {measured[0]:.1f} to "
            f"{measured[-1]:.1f}."
        )
    quiet = [origin for origin, value in loudness.items() if (value or -math.inf) < QUIET]
    _print_files(f"quieter than {QUIET:g} LUFS", quiet)
    silent = [t.source.origin for t in tracks if t.statistics.silence > SILENT]
    _print_files(f"silent for more than {SILENT:.0%} of their time", silent)
    print_line(f"Statistics of every file: {path}")


def _print_files(what: str, files: tp.Sequence[str]) -> None:
    """Print the number of files, and at most `MAX_LISTED` of them."""
    if not files:
        return
    print_line(f"{len(files)} {what}:")
    for name in files[:MAX_LISTED]:
        print_line(f"  {name}")
    if len(files) > MAX_LISTED:
        print_line(f"  … and {len(files) - MAX_LISTED} more")


def _column(text: str) -> tuple[str, str]:
    field, equals, name = text.partition("=")
    if not (field and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=NAME")
    return field, name
