"""Writing and reading the state of a run so that a crash never costs more than one epoch.

A checkpoint is a dictionary of tensors and plain values: `model`, `best_state`, `optimizer`,
`lr_scheduler`, `ema`, `history`, and the configuration as YAML text. It is written beside its
final name and moved there when complete, so a reader never sees a torn file.
"""

import logging
import os
import typing as tp
from pathlib import Path

import torch

from ..errors import CheckpointError

logger = logging.getLogger(__name__)

State = dict[str, tp.Any]


def save_atomically(state: State, path: Path) -> None:
    """Write `state` to `path`; whoever reads sees the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"Could not write the checkpoint {path}: {error}. "
            "Free space or choose another folder with AUDIOCRAFT_DORA_DIR; "
            "the previous checkpoint is untouched."
        ) from error
    os.replace(temporary, path)


def load_state(path: Path) -> State:
    """Read a checkpoint of ours on the CPU, without running any code that a file could carry.

    Raises:
        CheckpointError: The file is missing, torn, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error


class Checkpoints:
    """The checkpoint files of one run.

    Args:
        folder: Where `checkpoint.th` and `checkpoint_<epoch>.th` go.
        save_last: Keep `checkpoint.th` up to date after every epoch.
        save_every: Also keep every n-th epoch under its own name; 0 or `None` keeps none.
        keep_last: How many of those to keep; 0 or `None` keeps all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_last: bool = True,
        save_every: int | None = None,
        keep_last: int | None = None,
    ):
        self.folder = folder
        self.save_last = save_last
        self.save_every = save_every or 0
        self.keep_last = keep_last or 0

    @property
    def last(self) -> Path:
        return self.folder / "checkpoint.th"

    def of_epochs(self) -> list[Path]:
        """Checkpoints kept under their epoch's number, oldest first."""
        numbered = [path for path in self.folder.glob("checkpoint_*.th") if _epoch(path) >= 0]
        return sorted(numbered, key=_epoch)

    def save(self, state: State, epoch: int) -> None:
        """Save after `epoch` (counted from 1) and drop what is no longer to be kept."""
        if self.save_every and epoch % self.save_every == 0:
            save_atomically(state, self.folder / f"checkpoint_{epoch}.th")
            if self.keep_last:
                for path in self.of_epochs()[: -self.keep_last]:
                    path.unlink()
        if self.save_last:
            save_atomically(state, self.last)

    def load(self) -> State | None:
        """The latest state, or `None` where the run has not saved any."""
        if self.last.is_file():
            return load_state(self.last)
        numbered = self.of_epochs()
        return load_state(numbered[-1]) if numbered else None


def _epoch(path: Path) -> int:
    suffix = path.stem.rpartition("_")[2]
    return int(suffix) if suffix.isdigit() else -1
