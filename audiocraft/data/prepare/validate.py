"""What is wrong with the files of a manifest, told in a table and as JSON.

python -m audiocraft validate egs/NAME/data.jsonl [--json FILE]

Every file is decoded to its end. Nothing is changed or deleted: what to do about a problem is for
somebody with ears to say.
"""

import argparse
import collections
import contextlib
import os
import sys
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ...errors import AudiocraftError, AudioError, ManifestError
from ..io.files import exists, save_json
from ..manifest import AudioMeta, load_manifest
from ..music_info import info_path_of, load_music_info
from ..resume_log import ResumeLog
from ..worker_pool import TIME_LIMIT
from .duplicates import find_duplicates
from .statistics import AudioStatistics, compute_file_statistics

KINDS = {
    "unreadable": "cannot be decoded to its end, or holds samples that are not finite",
    "short": "lasts less than --min-duration",
    "silent": "is silent for more than --max-silence of its time",
    "clipped": "has more than --max-clipped of its samples in flat tops at full scale",
    "duplicated": "holds the same music as another file, whatever their formats",
    "mislabelled": "is not what its name, its manifest entry or its metadata says",
}
# What files of these names hold, as the decoders call it.
CONTAINERS = {
    ".wav": ("wav", "wavex", "rf64", "w64"),
    ".mp3": ("mp3",),
    ".flac": ("flac",),
    ".ogg": ("ogg",),
    ".opus": ("ogg",),
    ".m4a": ("mov",),
    ".aac": ("aac",),
    ".aif": ("aiff",),
    ".aiff": ("aiff",),
}
SHOWN = 20  # files that the table names of each kind


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on a file has a problem."""

    min_duration: float = 1.0  # seconds
    max_silence: float = 0.9  # share of the time
    max_clipped: float = 0.001  # share of the samples
    duration_tolerance: float = 0.1  # seconds, or a hundredth of the file if that is more


class Problem(tp.NamedTuple):
    """What is wrong with one file."""

    kind: str  # one of `KINDS`
    path: str
    detail: str


def find_problems(
    metas: tp.Sequence[AudioMeta],
    statistics: tp.Sequence[AudioStatistics | AudioError],
    limits: Limits,
) -> list[Problem]:
    """Compare what was found in files with what a manifest says about them.

    Args:
        metas: The files.
        inspections: What was found in each, or why nothing was.
        limits: From where on something is a problem.

    Returns:
        Problems, in the order of `KINDS` and, within a kind, of the files.
    """
    problems = []
    described = [meta for meta in metas if exists(info_path_of(meta))]
    for meta, found in zip(metas, statistics, strict=True):
        if isinstance(found, AudioError):
            problems.append(Problem("unreadable", meta.path, _about(found, meta.path)))
            continue
        problems += _of_sound(meta.path, found, limits)
        wrong = [*_wrong_labels(meta, found, limits), *_wrong_metadata(meta, bool(described))]
        problems += [Problem("mislabelled", meta.path, detail) for detail in wrong]
    problems += _duplicates(metas, statistics)
    order = list(KINDS)
    return sorted(problems, key=lambda problem: order.index(problem.kind))


def _of_sound(path: str, found: AudioStatistics, limits: Limits) -> tp.Iterator[Problem]:
    if not found.finite:
        yield Problem("unreadable", path, "holds samples that are infinite or not a number")
        return
    if found.duration < limits.min_duration:
        yield Problem("short", path, f"{found.duration:.2f} s")
    if found.silence > limits.max_silence:
        yield Problem("silent", path, f"{found.silence:.0%} of its time")
    if found.clipped > limits.max_clipped:
        yield Problem("clipped", path, f"{found.clipped:.2%} of its samples")


def _wrong_labels(meta: AudioMeta, found: AudioStatistics, limits: Limits) -> tp.Iterator[str]:
    suffix = Path(meta.path).suffix.lower()
    if found.kind not in CONTAINERS.get(suffix, (found.kind,)):
        yield f"is called {suffix} but its content is {found.kind}"
    tolerance = max(limits.duration_tolerance, found.duration / 100)
    if not abs(meta.duration - found.duration) <= tolerance:
        yield f"the manifest says {meta.duration:.2f} s, it lasts {found.duration:.2f} s"
    if meta.sample_rate != found.sample_rate:
        yield f"the manifest says {meta.sample_rate} Hz, it has {found.sample_rate} Hz"


def _wrong_metadata(meta: AudioMeta, needed: bool) -> tp.Iterator[str]:
    if needed or meta.info_path is not None:
        try:
            load_music_info(meta)
        except ManifestError as error:
            yield _about(error, meta.path)


def _about(error: Exception, path: str) -> str:
    """What an error says about a file, whose name stands beside it."""
    return str(error).removeprefix(f"{path} ")


def _duplicates(
    metas: tp.Sequence[AudioMeta], statistics: tp.Sequence[AudioStatistics | AudioError]
) -> tp.Iterator[Problem]:
    known = [None if isinstance(found, AudioError) else found for found in statistics]
    for duplicates in find_duplicates(known):
        first, *others = (metas[member].path for member in duplicates.members)
        for path in others:
            if path == first:
                yield Problem("duplicated", path, "is listed more than once")
            else:
                how = "the same samples as" if duplicates.exact else "the same music as"
                yield Problem("duplicated", path, f"holds {how} {first}")


def print_table(problems: tp.Sequence[Problem], num_files: int, hours: float) -> None:
    """Say what was found, at most `SHOWN` files of each kind."""
    by_kind = collections.defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    for kind, group in by_kind.items():
        print(f"{kind}: {KINDS[kind]}")
        width = max(len(_printable(problem.path)) for problem in group[:SHOWN])
        for problem in group[:SHOWN]:
            print(f"  {_printable(problem.path):{width}}  {_printable(problem.detail)}")
        if len(group) > SHOWN:
            print(f"  … and {len(group) - SHOWN} more; --json FILE names them all")
    files = f"{num_files} files, {hours:.2f} hours"
    if not problems:
        print(f"{files}: no problem found.")
        return
    concerned = len({problem.path for problem in problems})
    counts = ", ".join(f"{len(group)} {kind}" for kind, group in by_kind.items())
    print(f"{files}: {concerned} with problems ({counts}). Nothing was changed.")


def _printable(text: str) -> str:
    """Text on one line, whatever a file is called."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_json(
    problems: tp.Sequence[Problem], manifests: tp.Sequence[str], num_files: int, hours: float
) -> dict[str, tp.Any]:
    """What was found, for programs."""
    counts = collections.Counter(problem.kind for problem in problems)
    return {
        "manifests": list(manifests),
        "files": num_files,
        "hours": hours,
        "counts": {kind: counts[kind] for kind in KINDS},
        "problems": [problem._asdict() for problem in problems],
    }


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Check every file of a manifest; the exit status is 1 if there are problems."""
    args = _parser().parse_args(argv)
    limits = Limits(
        min_duration=args.min_duration, max_silence=args.max_silence, max_clipped=args.max_clipped
    )
    try:
        metas = [meta for manifest in args.manifests for meta in load_manifest(manifest)]
    except AudiocraftError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
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
        raise SystemExit("Stopped." + (" The same command goes on." if args.json else "")) from None
    print_table(problems, *amount)
    tolerated = set(args.tolerate)
    raise SystemExit(int(any(problem.kind not in tolerated for problem in problems)))


def _parser() -> argparse.ArgumentParser:
    default = Limits()
    parser = argparse.ArgumentParser(
        "python -m audiocraft validate",
        description="Decode every file of a manifest and report what is wrong. Several manifests "
        "are taken as one, so that a piece that is in two splits is found. The exit status is 0 "
        "without problems, 1 with some, 2 if a manifest cannot be read. Nothing is ever changed.",
        epilog="problems: " + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST", help="file, or its folder")
    parser.add_argument("--json", metavar="FILE", help="also write the report there")
    parser.add_argument("--min-duration", type=float, default=default.min_duration, help="seconds")
    parser.add_argument("--max-silence", type=float, default=default.max_silence, help="share")
    parser.add_argument("--max-clipped", type=float, default=default.max_clipped, help="share")
    parser.add_argument(
        "--tolerate",
        nargs="+",
        default=[],
        choices=list(KINDS),
        metavar="PROBLEM",
        help="kinds that are told but leave the exit status alone",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0 takes none"
    )
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT, help="seconds for one file")
    return parser
