"""Which files go into which split, so that no split knows the music of another.

What belongs together (an artist's songs, the clips of a piece, copies of one recording) is never
divided. The choice depends on a seed and on what the groups are called, not on the order in which
files were found.
"""

import typing as tp

from ...errors import ManifestError
from ...utils.randomness import derive_seed
from .duplicates import DuplicateGroup, Groups


class Group(tp.NamedTuple):
    """Files that belong together."""

    name: str
    size: float  # seconds


def join_groups(names: tp.Sequence[str], duplicates: tp.Sequence[DuplicateGroup]) -> list[str]:
    """The name of every file's group, where files that hold the same music share one.

    Args:
        names: What each file belongs to.
        twins: Files that hold the same music.
    """
    groups = Groups(len(names))
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        groups.join(first.setdefault(name, number), number)
    for twin in duplicates:
        for member in twin.members:
            groups.join(twin.members[0], member)
    joined = list(names)
    for members in groups.members():
        name = min(names[member] for member in members)  # whichever file was found first
        for member in members:
            joined[member] = name
    return joined


def assign_splits(
    groups: tp.Sequence[Group], shares: tp.Mapping[str, float], rest: str, seed: int
) -> dict[str, str]:
    """Draw the split of every group.

    A split gets no more than its share, unless it would stay empty: then it gets one small group.

    Args:
        groups: What must stay together; names are unique.
        shares: Of the whole duration, by split; those of 0 are left out.
        rest: The split that gets all others, and at least one group.
        seed: Another seed draws other groups.

    Returns:
        Splits by the names of the groups.

    Raises:
        ManifestError: The shares leave nothing for `rest`, or there are fewer groups than splits.
    """
    wanted = {split: share for split, share in shares.items() if share > 0}
    if not all(0 <= share < 1 for share in shares.values()) or sum(wanted.values()) >= 1:
        asked = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise ManifestError(
            f"The shares {asked} must be from 0 to 1 and leave something for {rest}."
        )
    if len(groups) <= len(wanted):
        raise ManifestError(
            f"What belongs together makes {len(groups)} group{'s' * (len(groups) != 1)}, too few "
            f"for {len(wanted) + 1} splits. Choose something finer with --by, such as piece, add "
            "music, or set the share of a split to 0."
        )
    remaining = sorted(groups, key=lambda group: derive_seed("split", seed, group.name))
    whole = sum(group.size for group in groups)
    assigned: dict[str, str] = {}
    ordered = sorted(wanted.items(), key=lambda entry: entry[1])
    for number, (split, share) in enumerate(ordered):
        room = share * whole
        spare = len(remaining) - (len(ordered) - number)  # one for each split that follows
        chosen: list[Group] = []
        for group in remaining:
            if group.size <= room and len(chosen) < spare:
                chosen.append(group)
                room -= group.size
        chosen = chosen or [min(remaining, key=lambda group: group.size)]
        assigned |= {group.name: split for group in chosen}
        remaining = [group for group in remaining if group.name not in assigned]
    return assigned | {group.name: rest for group in remaining}
