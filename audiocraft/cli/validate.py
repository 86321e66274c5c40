"""`audiocraft validate`: check every file of a manifest."""

import collections
import contextlib
import os
import sys
import typing as tp

from ..data.io.files import check_writable, save_json
from ..data.manifest import load_manifest
from ..data.prepare.statistics import AudioStatistics, compute_file_statistics
from ..data.prepare.validate import KINDS, Limits, Problem, as_json, find_problems
from ..data.resume_log import ResumeLog
from ..data.worker_pool import TIME_LIMIT
from ..errors import AudiocraftError
from .output import print_line
from .parser import CommandParser

MAX_LISTED = 20  # files of each kind in the table


def get_parser() -> CommandParser:
    """The arguments of the command."""
    default = Limits()
    parser = CommandParser(
        "validate",
        "Decode every file of a manifest and report problems. Several manifests are checked as "
        "one, so that a file in two splits is found. The exit status is 0 without problems, 1 "
        "with problems, 2 if a manifest cannot be read. No file is changed.",
        epilog="problems: " + "; ".join(f"{kind}: {text}" for kind, text in KINDS.items()),
    )
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST", help="file, or its folder")
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file")
    parser.add_argument("--min-duration", type=float, default=default.min_duration, help="seconds")
    parser.add_argument(
        "--max-silence", type=float, default=default.max_silence, help="share of the time"
    )
    parser.add_argument(
        "--max-clipped", type=float, default=default.max_clipped, help="share of the samples"
    )
    parser.add_argument(
        "--tolerate",
        nargs="+",
        default=[],
        choices=list(KINDS),
        metavar="PROBLEM",
        help="kinds of problems that are reported but do not change the exit status",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0: none"
    )
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT, help="seconds per file")
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_args(argv)
    limits = Limits(
        min_duration=args.min_duration, max_silence=args.max_silence, max_clipped=args.max_clipped
    )
    try:
        if args.json:
            check_writable(args.json)
        metas = [meta for manifest in args.manifests for meta in load_manifest(manifest)]
    except AudiocraftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    paths = [meta.path for meta in metas]
    try:
        with ResumeLog(args.json) if args.json else contextlib.nullcontext() as resume_log:
            found = compute_file_statistics(paths, args.workers, args.time_limit, resume_log)
            statistics = [found[path] for path in paths]
            problems = find_problems(metas, statistics, limits)
            seconds = sum(i.duration for i in statistics if isinstance(i, AudioStatistics))
            amount = (len(metas), seconds / 3600)
            if args.json:
                save_json(args.json, as_json(problems, args.manifests, *amount))
    except KeyboardInterrupt:
        print_line("Stopped. The same command resumes." if args.json else "Stopped.")
        return 130
    print_table(problems, *amount)
    tolerated = set(args.tolerate)
    return int(any(problem.kind not in tolerated for problem in problems))


def print_table(problems: tp.Sequence[Problem], num_files: int, hours: float) -> None:
    """Print the problems, at most `MAX_LISTED` files of each kind."""
    by_kind = collections.defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    for kind, group in by_kind.items():
        print_line(f"{kind}: {KINDS[kind]}")
        width = max(len(_printable(problem.path)) for problem in group[:MAX_LISTED])
        for problem in group[:MAX_LISTED]:
            print_line(f"  {_printable(problem.path):{width}}  {_printable(problem.detail)}")
        if len(group) > MAX_LISTED:
            print_line(f"  … and {len(group) - MAX_LISTED} more; --json FILE lists all")
    files = f"{num_files} file{'s' * (num_files != 1)}, {hours:.2f} hours"
    if not problems:
        print_line(f"{files}: no problem found.")
        return
    affected = len({problem.path for problem in problems})
    counts = ", ".join(f"{len(group)} {kind}" for kind, group in by_kind.items())
    print_line(f"{files}: {affected} with problems ({counts}). No file was changed.")


def _printable(text: str) -> str:
    """Escape characters that are not printable, such as line ends in file names."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
