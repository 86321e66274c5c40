"""Duplicate detection: files with the same music, judged by decoded content."""

import base64
import typing as tp

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from .statistics import AudioStatistics

MIN_CORRELATION = 0.9  # of fingerprints; different music rarely exceeds 0.4, a lossy copy has 0.99
DURATION_TOLERANCE = 0.3  # seconds of padding that a format may add
ROWS = 1024  # fingerprints per block of the similarity matrix


class DuplicateGroup(tp.NamedTuple):
    """Files with the same music."""

    members: list[int]  # indices, ascending
    exact: bool  # whether all samples are equal


def find_duplicates(statistics: tp.Sequence[AudioStatistics | None]) -> list[DuplicateGroup]:
    """Group files whose decoded content is the same, or the same except for its format.

    Detects copies in another format, at another sample rate or level. Does not detect excerpts, or
    copies shifted by more than some tenths of a second.

    Args:
        statistics: Statistics of each file; `None` for a file to ignore.

    Returns:
        Groups of at least two files, in the order of their first members.
    """
    same = DisjointSet(range(len(statistics)))
    first: dict[str, int] = {}
    for number, entry in enumerate(statistics):
        if entry is not None:
            same.merge(first.setdefault(entry.digest, number), number)
    for one, other in _similar_pairs([(n, s) for n, s in enumerate(statistics) if s is not None]):
        same.merge(one, other)
    groups = []
    for members in sorted(sorted(subset) for subset in same.subsets() if len(subset) > 1):
        digests = {entry.digest for n in members if (entry := statistics[n]) is not None}
        groups.append(DuplicateGroup(members, exact=len(digests) == 1))
    return groups


def _similar_pairs(
    numbered: tp.Sequence[tuple[int, AudioStatistics]],
) -> tp.Iterator[tuple[int, int]]:
    """Pairs of files of similar duration whose fingerprints correlate."""
    known = sorted(
        ((entry.duration, number, entry) for number, entry in numbered if entry.fingerprint),
        key=lambda item: item[:2],
    )
    if not known:
        return
    durations = np.array([duration for duration, _, _ in known])
    numbers = [number for _, number, _ in known]
    raw = b"".join(base64.b64decode(entry.fingerprint) for _, _, entry in known)
    prints = np.frombuffer(raw, np.int8).reshape(len(known), -1)
    ends = np.searchsorted(durations, durations + DURATION_TOLERANCE, side="right")
    for start in range(0, len(known), ROWS):
        rows = _normalize(prints[start : start + ROWS])
        for column in range(start, int(ends[min(start + ROWS, len(known)) - 1]), ROWS):
            similarity = rows @ _normalize(prints[column : column + ROWS]).T
            for i, j in np.argwhere(similarity > MIN_CORRELATION):
                one, other = start + int(i), column + int(j)
                if one < other < ends[one]:
                    yield numbers[one], numbers[other]


def _normalize(prints: np.ndarray) -> np.ndarray:
    vectors = prints.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
