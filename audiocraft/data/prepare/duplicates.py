"""Which files hold the same music, judged by what they sound like and not by their bytes."""

import base64
import typing as tp

import numpy as np

from .statistics import AudioStatistics

ALIKE = 0.9  # correlation of fingerprints; other music rarely exceeds 0.4, a lossy copy has 0.99
DURATION_TOLERANCE = 0.3  # seconds that a format may add to the same music
ROWS = 1024  # fingerprints compared at once


class DuplicateGroup(tp.NamedTuple):
    """Files that hold the same music."""

    members: list[int]  # their numbers, ascending
    exact: bool  # not only alike: every sample is equal


def find_duplicates(statistics: tp.Sequence[AudioStatistics | None]) -> list[DuplicateGroup]:
    """Group files whose decoded content is the same, or the same but for its format.

    Found are copies in another format, at another rate or level. Not found are excerpts, and
    copies that begin some tenths of a second later.

    Args:
        inspections: One per file; `None` for a file that is left out.

    Returns:
        Groups of at least two files, in the order of their first members.
    """
    groups = Groups(len(statistics))
    first: dict[str, int] = {}
    for number, found in enumerate(statistics):
        if found is not None:
            groups.join(first.setdefault(found.digest, number), number)
    for one, other in _alike([(n, i) for n, i in enumerate(statistics) if i is not None]):
        groups.join(one, other)
    duplicates = []
    for members in groups.members():
        if len(members) == 1:
            continue
        digests = {found.digest for n in members if (found := statistics[n]) is not None}
        duplicates.append(DuplicateGroup(members, exact=len(digests) == 1))
    return duplicates


class Groups:
    """Numbers that are joined one pair after the other; each is in a group, alone at first."""

    def __init__(self, size: int):
        self.parents = list(range(size))

    def find(self, number: int) -> int:
        """The number that stands for a group."""
        while self.parents[number] != number:
            self.parents[number] = number = self.parents[self.parents[number]]
        return number

    def join(self, one: int, other: int) -> None:
        """Make two groups one."""
        one, other = sorted((self.find(one), self.find(other)))
        self.parents[other] = one

    def members(self) -> list[list[int]]:
        """All groups, in the order of their first members."""
        groups: dict[int, list[int]] = {}
        for number in range(len(self.parents)):
            groups.setdefault(self.find(number), []).append(number)
        return list(groups.values())


def _alike(numbered: tp.Sequence[tuple[int, AudioStatistics]]) -> tp.Iterator[tuple[int, int]]:
    """Pairs of files of about the same duration whose fingerprints agree."""
    known = sorted(
        ((found.duration, number, found) for number, found in numbered if found.fingerprint),
        key=lambda entry: entry[:2],
    )
    if not known:
        return
    durations = np.array([duration for duration, _, _ in known])
    numbers = [number for _, number, _ in known]
    raw = b"".join(base64.b64decode(found.fingerprint) for _, _, found in known)
    prints = np.frombuffer(raw, np.int8).reshape(len(known), -1)
    ends = np.searchsorted(durations, durations + DURATION_TOLERANCE, side="right")
    for start in range(0, len(known), ROWS):
        rows = _normalized(prints[start : start + ROWS])
        for column in range(start, int(ends[min(start + ROWS, len(known)) - 1]), ROWS):
            similarity = rows @ _normalized(prints[column : column + ROWS]).T
            for i, j in np.argwhere(similarity > ALIKE):
                one, other = start + int(i), column + int(j)
                if one < other < ends[one]:
                    yield numbers[one], numbers[other]


def _normalized(prints: np.ndarray) -> np.ndarray:
    vectors = prints.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
