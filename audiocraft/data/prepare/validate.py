"""Validation of manifests: comparison of the statistics of each file with its entry and metadata.

No file is changed or deleted; what to do about a problem is for people to decide.
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
    "unreadable": "cannot be decoded to its end, or has samples that are not finite",
    "short": "is shorter than --min-duration",
    "silent": "is silent for more than --max-silence of its time",
    "clipped": "has more than --max-clipped of its samples clipped at full scale",
    "duplicated": "has the same music as another file, possibly in another format",
    "mislabelled": "differs from its extension, its manifest entry or its metadata",
}
# Formats of each extension, as named by the decoders.
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


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Thresholds of problems."""

    min_duration: float = 1.0  # seconds
    max_silence: float = 0.9  # share of the time
    max_clipped: float = 0.001  # share of the samples
    duration_tolerance: float = 0.1  # seconds, or a hundredth of the file if longer


class Problem(tp.NamedTuple):
    """A problem of one file."""

    kind: str  # one of `KINDS`
    path: str
    detail: str


def find_problems(
    metas: tp.Sequence[AudioMeta],
    statistics: tp.Sequence[AudioStatistics | AudioError],
    limits: Limits,
) -> list[Problem]:
    """Find problems of the files of a manifest.

    Args:
        metas: Manifest entries.
        statistics: Statistics or error of each file.
        limits: Thresholds.

    Returns:
        Problems, in the order of `KINDS` and, within a kind, of the files.
    """
    problems = []
    has_metadata = any(exists(info_path_of(meta)) for meta in metas)
    for meta, entry in zip(metas, statistics, strict=True):
        if isinstance(entry, AudioError):
            problems.append(Problem("unreadable", meta.path, _without_path(entry, meta.path)))
            continue
        problems += _audio_problems(meta.path, entry, limits)
        details = [*_label_problems(meta, entry, limits), *_metadata_problems(meta, has_metadata)]
        problems += [Problem("mislabelled", meta.path, detail) for detail in details]
    problems += _duplicates(metas, statistics)
    order = list(KINDS)
    return sorted(problems, key=lambda problem: order.index(problem.kind))


def _audio_problems(path: str, entry: AudioStatistics, limits: Limits) -> tp.Iterator[Problem]:
    if not entry.finite:
        yield Problem("unreadable", path, "has samples that are not finite")
        return
    if entry.duration < limits.min_duration:
        yield Problem("short", path, f"{entry.duration:.2f} s")
    if entry.silence > limits.max_silence:
        yield Problem("silent", path, f"{entry.silence:.0%} of its time")
    if entry.clipped > limits.max_clipped:
        yield Problem("clipped", path, f"{entry.clipped:.2%} of its samples")


def _label_problems(meta: AudioMeta, entry: AudioStatistics, limits: Limits) -> tp.Iterator[str]:
    if entry.defect:
        yield entry.defect
    suffix = Path(meta.path).suffix.lower()
    if entry.kind not in CONTAINERS.get(suffix, (entry.kind,)):
        yield f"has the extension {suffix} but is {entry.kind}"
    tolerance = max(limits.duration_tolerance, entry.duration / 100)
    if not abs(meta.duration - entry.duration) <= tolerance:
        yield f"has {meta.duration:.2f} s in the manifest but lasts {entry.duration:.2f} s"
    if meta.sample_rate != entry.sample_rate:
        yield f"has {meta.sample_rate} Hz in the manifest but {entry.sample_rate} Hz in the file"


def _metadata_problems(meta: AudioMeta, required: bool) -> tp.Iterator[str]:
    if required or meta.info_path is not None:
        try:
            load_music_info(meta)
        except ManifestError as error:
            yield _without_path(error, meta.path)


def _without_path(error: Exception, path: str) -> str:
    """Message of an error without the leading path, which the table shows beside it."""
    return str(error).removeprefix(f"{path} ")


def _duplicates(
    metas: tp.Sequence[AudioMeta], statistics: tp.Sequence[AudioStatistics | AudioError]
) -> tp.Iterator[Problem]:
    readable = [None if isinstance(entry, AudioError) else entry for entry in statistics]
    for group in find_duplicates(readable):
        first, *others = (metas[member].path for member in group.members)
        for path in others:
            if path == first:
                yield Problem("duplicated", path, "is listed more than once")
            else:
                what = "samples" if group.exact else "music"
                yield Problem("duplicated", path, f"has the same {what} as {first}")


def as_json(
    problems: tp.Sequence[Problem], manifests: tp.Sequence[str], num_files: int, hours: float
) -> dict[str, tp.Any]:
    """Report for programs."""
    counts = collections.Counter(problem.kind for problem in problems)
    return {
        "manifests": list(manifests),
        "files": num_files,
        "hours": hours,
        "counts": {kind: counts[kind] for kind in KINDS},
        "problems": [problem._asdict() for problem in problems],
    }
