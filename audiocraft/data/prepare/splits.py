"""Splits: assignment of files to train, valid, evaluate and generate without leakage.

Files of a group (an artist, a track, copies of one recording) are never divided. The assignment
depends on a seed and the names of the groups, not on the order in which files are found.
"""

import typing as tp

from scipy.cluster.hierarchy import DisjointSet

from ...errors import ManifestError
from ...utils.randomness import derive_seed
from .duplicates import DuplicateGroup


class Group(tp.NamedTuple):
    """Files that stay in one split."""

    name: str
    size: float  # seconds


def join_groups(names: tp.Sequence[str], duplicates: tp.Sequence[DuplicateGroup]) -> list[str]:
    """Join groups that contain the same music.

    Args:
        names: Group of each file.
        duplicates: Files with the same music.

    Returns:
        Group of each file after joining: the alphabetically first name.
    """
    files = range(len(names))
    same = DisjointSet(files)
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        same.merge(first.setdefault(name, number), number)
    for group in duplicates:
        for member in group.members:
            same.merge(group.members[0], member)
    joined = list(names)
    for members in same.subsets():
        name = min(str(names[member]) for member in members)
        for member in members:
            joined[member] = name
    return joined


def assign_splits(
    groups: tp.Sequence[Group], shares: tp.Mapping[str, float], rest: str, seed: int
) -> dict[str, str]:
    """Draw the split of every group.

    A split gets at most its share, except that a split which would be empty gets one small group.

    Args:
        groups: Groups with unique names.
        shares: Share of the total duration, by split; splits with share 0 are omitted.
        rest: The split of all other groups, at least one.
        seed: Seed of the draw.

    Returns:
        Split of each group, by name.

    Raises:
        ManifestError: The shares leave nothing for `rest`, or there are fewer groups than splits.
    """
    check_shares(shares, rest)
    check_group_count(len(groups), shares)
    positive = {split: share for split, share in shares.items() if share > 0}
    remaining = sorted(groups, key=lambda group: derive_seed("split", seed, group.name))
    total = sum(group.size for group in groups)
    assigned: dict[str, str] = {}
    ordered = sorted(positive.items(), key=lambda item: item[1])
    for number, (split, share) in enumerate(ordered):
        budget = share * total
        available = len(remaining) - (len(ordered) - number)  # one for each later split
        chosen: list[Group] = []
        for group in remaining:
            if group.size <= budget and len(chosen) < available:
                chosen.append(group)
                budget -= group.size
        chosen = chosen or [min(remaining, key=lambda group: group.size)]
        assigned |= {group.name: split for group in chosen}
        remaining = [group for group in remaining if group.name not in assigned]
    return assigned | {group.name: rest for group in remaining}


def check_group_count(num_groups: int, shares: tp.Mapping[str, float]) -> None:
    """Check that every split can have a group.

    Raises:
        ManifestError: There are fewer groups than splits.
    """
    num_splits = 1 + sum(share > 0 for share in shares.values())
    if num_groups < num_splits:
        raise ManifestError(
            f"{num_groups} group{'s' * (num_groups != 1)} cannot be divided into {num_splits} "
            "splits. Choose smaller groups with --by, such as --by track, add music, or set the "
            "share of a split to 0."
        )


def check_shares(shares: tp.Mapping[str, float], rest: str) -> None:
    """Check the shares of splits.

    Raises:
        ManifestError: A share is not in [0, 1), or they leave nothing for `rest`.
    """
    valid = all(0 <= share < 1 for share in shares.values()) and sum(shares.values()) < 1
    if not valid:
        given = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise ManifestError(
            f"The shares {given} must be at least 0 and sum to less than 1, to leave some of the "
            f"data for {rest}."
        )
