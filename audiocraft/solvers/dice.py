"""The dice of a batch of which each process sees a part, and what its parts must have in common.

What a sample draws for itself depends on its place in the whole batch. What is drawn once for the
batch is drawn by each process for itself, as released models were trained, or by all of them alike
(`as_one_process`): then their number changes nothing.
"""

import typing as tp

from ..data.conditions import ConditioningAttributes
from ..modules.conditioners import Condition, Dice, pad_condition
from ..utils.randomness import derive_generator
from .distributed import agree, rank


def throw_dice(
    attributes: list[ConditioningAttributes],
    name: tp.Sequence[int | str],
    *,
    sample_rate: int,
    as_one_process: bool,
) -> Dice:
    """The dice of a batch, of which this process sees some samples.

    Args:
        attributes: Of those samples.
        name: Names the batch; the same in every process.
        sample_rate: In which the shortest clip is counted, in Hz.
        as_one_process: Decide as one process with the whole batch would. Every process has to
            call it then.
    """
    numbers = range(rank() * len(attributes), (rank() + 1) * len(attributes))
    shortest = None
    if as_one_process:
        clips = [clip for sample in attributes for clip in sample.wav.values()]
        lengths = [int(c.length) * sample_rate // c.sample_rate[0] for c in clips]
        shortest = -agree(-min(lengths, default=0))[0]
    return Dice(
        batch=derive_generator(*name, "all" if as_one_process else rank()),
        items=[derive_generator(*name, "item", number) for number in numbers],
        shortest_clip=shortest,
    )


def align(conditions: dict[str, Condition]) -> dict[str, Condition]:
    """Conditions as long as the longest in any process: the padding is heard, too."""
    lengths = agree(*(condition.embed.shape[1] for condition in conditions.values()))
    return {
        name: pad_condition(condition, length)
        for (name, condition), length in zip(conditions.items(), lengths)
    }
