"""What is wrong with the files of a manifest, told in a table and as JSON.

python -m audiocraft validate egs/NAME/data.jsonl [--json FILE]

Every file is decoded to its end. Nothing is changed or deleted: what to do about a problem is for
somebody with ears to say.
"""

import collections
import typing as tp
from dataclasses import dataclass
from pathlib import Path

from ...errors import AudioError, ManifestError
from ..io.files import exists
from ..manifest import AudioMeta
from ..music_info import info_path_of, load_music_info
from .duplicates import find_duplicates
from .statistics import AudioStatistics

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
        statistics: What was found in each, or why nothing was.
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
