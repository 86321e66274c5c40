"""Training data of a run: change detection between checkpoints, and training without loading."""

import itertools
import logging
import typing as tp

from torch.utils.data import DataLoader

from ..data.audio_dataset import AudioDataset

logger = logging.getLogger(__name__)


def repeat_first_batch(loader: DataLoader) -> tp.Iterator[tp.Any]:
    """Yield the first batch `len(loader)` times, to measure training without data loading."""
    total = len(loader)
    yield from itertools.repeat(next(iter(loader)), total)


def data_summary(loader: DataLoader | None) -> dict[str, tp.Any]:
    """Summarize the training data: number of files, hours, digest of their durations."""
    return {} if loader is None else tp.cast(AudioDataset, loader.dataset).summary()


def warn_changed_data(then: dict[str, tp.Any] | None, now: dict[str, tp.Any]) -> None:
    """Warn if a run resumes with other training data than its checkpoint was trained on."""
    if then and now and then != now:
        logger.warning(
            "The training data has changed since the last checkpoint: %d files, %s hours then; %d "
            "files, %s hours now%s. The run continues with the present files (datasource.train).",
            then["files"],
            then["hours"],
            now["files"],
            now["hours"],
            "" if then["files"] != now["files"] else ", with other durations",
        )
