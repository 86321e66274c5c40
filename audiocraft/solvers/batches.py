"""What a run asks of its data beside batches: the first one again, and whether it is the same."""

import itertools
import logging
import typing as tp

from torch.utils.data import DataLoader

from ..data.audio_dataset import AudioDataset

logger = logging.getLogger(__name__)


def repeat_first_batch(loader: DataLoader) -> tp.Iterator[tp.Any]:
    """The first batch as often as there are batches, to see what reading costs."""
    total = len(loader)
    batches = iter(loader)
    first = next(batches)
    yield from itertools.repeat(first, total)


def data_summary(loader: DataLoader | None) -> dict[str, tp.Any]:
    """What the training data is made of."""
    return {} if loader is None else tp.cast(AudioDataset, loader.dataset).summary()


def warn_changed_data(then: dict[str, tp.Any] | None, now: dict[str, tp.Any]) -> None:
    """Warn where a run goes on with other data than it began with."""
    if then and now and then != now:
        logger.warning(
            "The training data changed since the last checkpoint: %d files of %s hours then, %d of "
            "%s now%s. The run goes on with those that are there now; to learn from the old ones "
            "alone, put them back.",
            then["files"],
            then["hours"],
            now["files"],
            now["hours"],
            "" if then["files"] != now["files"] else ", of other lengths",
        )
