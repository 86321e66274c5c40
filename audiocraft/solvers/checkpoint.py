"""Checkpoints of a run: best weights, checkpoint files, sharded checkpoint files.

A checkpoint is a dictionary of tensors and plain values: `model`, `best_state`, `optimizer`,
`lr_scheduler`, `ema`, `history`, `progress`, and the configuration as YAML text. Files are written
atomically and flushed to the disk. Their CRC-32 checksums are verified before loading; if the
newest file is damaged, the run resumes from the previous one, which is kept for that purpose.
"""

import copy
import logging
import os
import shutil
import threading
import typing as tp
import warnings
import zipfile
import zlib
from concurrent.futures import Future
from pathlib import Path

import torch
from flashy.distrib import is_rank_zero
from torch import Tensor
from torch import distributed as dist
from torch.distributed import checkpoint as dcp

from ..errors import CheckpointError
from ..utils.atomic_write import atomic_file, fsync_folder
from .distributed import barrier

logger = logging.getLogger(__name__)

State = dict[str, tp.Any]
METADATA_KEYS = ("xp.cfg", "xp.sig", "history")  # in every file
WRITE_HINT = (
    "Free space, fix the permissions or choose another folder with AUDIOCRAFT_DORA_DIR; the "
    "previous checkpoint is unchanged."
)


class BestState:
    """The weights with the lowest validation metric.

    Its state is `{'model': state_dict}`, the layout of released checkpoints, so that every
    checkpoint can be loaded for inference.
    """

    def __init__(self):
        self.model: dict[str, Tensor] = {}
        self.metric: float | None = None

    def is_better(self, metric: float) -> bool:
        """Whether `metric` is lower than all before."""
        return self.metric is None or metric < self.metric

    def update(self, metric: float, model: tp.Mapping[str, Tensor]) -> bool:
        """Copy the weights `model` if `metric` is lower than all before; returns whether it is."""
        if not self.is_better(metric):
            return False
        self.metric = metric
        self.model = {key: value.detach().cpu().clone() for key, value in model.items()}
        return True

    def state_dict(self) -> State:
        return {"model": self.model, "metric": self.metric}

    def load_state_dict(self, state: State) -> None:
        self.model = dict(state["model"])
        self.metric = state.get("metric")


# Single files.


def save_atomically(state: State, path: Path) -> None:
    """Write a checkpoint; the file under this name is always complete.

    Raises:
        CheckpointError: It cannot be written; the previous file is unchanged.
    """
    try:
        with atomic_file(path, fsync=True) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):  # PyTorch hides that of a full disk in its own
            raise
        raise CheckpointError(
            f"The checkpoint {path} cannot be written: {cause}{_free_space(path)}. {WRITE_HINT}"
        ) from error


def _free_space(path: Path) -> str:
    try:
        return f" ({shutil.disk_usage(path.parent).free / 1e6:.0f} MB free)"
    except OSError:
        return ""


def verify(path: Path) -> None:
    """Verify the checksums of a checkpoint; `torch.load` would accept flipped bits.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} does not match.")


def read_state(path: Path, *, mmap: bool = False) -> State:
    """Read a checkpoint to the CPU, without executing code that a file could contain.

    Args:
        path: A verified file.
        mmap: Map the file into memory instead of reading all tensors.

    Raises:
        CheckpointError: The file contains more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error


def load_state(path: Path) -> State:
    """Verify and read a checkpoint.

    Raises:
        CheckpointError: It is missing, damaged, or not a checkpoint.
    """
    verify(path)
    return read_state(path)


class Checkpoints:
    """The checkpoint files of a run.

    Args:
        folder: Folder of `checkpoint.th`, `checkpoint.previous.th` and `checkpoint_<epoch>.th`.
        save_last: Write `checkpoint.th`.
        save_every: Also keep every n-th epoch as `checkpoint_<epoch>.th`; 0 or `None` keeps none.
        keep_last: Number of those that are kept; 0 or `None` keeps all.
        kept_states: Keys that those contain, to save space; `None` is all. A run cannot resume
            from a subset.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_last: bool = True,
        save_every: int | None = None,
        keep_last: int | None = None,
        kept_states: tp.Collection[str] | None = None,
    ):
        self.folder = folder
        self.save_last = save_last
        self.save_every = save_every or 0
        self.keep_last = keep_last or 0
        self.kept_states = kept_states
        self.damaged: set[Path] = set()  # found by `newest`

    @property
    def last(self) -> Path:
        return self.folder / "checkpoint.th"

    @property
    def previous(self) -> Path:
        return self.folder / "checkpoint.previous.th"

    def epoch_checkpoints(self) -> list[Path]:
        """Checkpoints kept under the number of their epoch, oldest first."""
        numbered = [path for path in self.folder.glob("checkpoint_*.th") if _epoch(path) >= 0]
        return sorted(numbered, key=_epoch)

    def save(self, state: State, epoch: int | None = None) -> None:
        """Write a checkpoint and delete those that are no longer kept.

        A checkpoint that was found damaged does not replace the intact previous one.

        Args:
            state: Content.
            epoch: The epoch that has just ended, counted from 1; `None` within an epoch.
        """
        if epoch and self.save_every and epoch % self.save_every == 0:
            names = state if self.kept_states is None else {*self.kept_states, *METADATA_KEYS}
            kept = {name: value for name, value in state.items() if name in names}
            save_atomically(kept, self.folder / f"checkpoint_{epoch}.th")
            if self.keep_last:
                for path in self.epoch_checkpoints()[: -self.keep_last]:
                    path.unlink()
        if self.save_last:
            incoming = self.folder / "checkpoint.incoming.th"
            save_atomically(state, incoming)
            if self.last.exists() and self.last not in self.damaged:
                os.replace(self.last, self.previous)
            self.damaged.discard(self.last)
            os.replace(incoming, self.last)
            fsync_folder(self.folder)

    def load(self) -> State | None:
        """Read the newest intact checkpoint; `None` if there is none."""
        path = self.newest()
        return None if path is None else read_state(path)

    def newest(self, check: tp.Callable[[Path], tp.Any] = verify) -> Path | None:
        """Return the newest intact checkpoint; `None` if nothing has been saved.

        Args:
            check: Raises a `CheckpointError` if a file is not intact.

        Raises:
            CheckpointError: There are checkpoints, but none is intact.
        """
        candidates = [self.last, self.previous]
        if self.kept_states is None:
            candidates += reversed(self.epoch_checkpoints())
        problem: CheckpointError | None = None
        for path in candidates:
            if not path.is_file():
                continue
            try:
                check(path)
            except CheckpointError as error:
                logger.warning("%s Trying the previous checkpoint.", error)
                self.damaged.add(path)
                problem = error
                continue
            if problem is not None:
                logger.warning("Resuming from %s instead.", path)
            return path
        if problem is not None:
            raise CheckpointError(
                f"No checkpoint in {self.folder} can be read: {problem} Restore one from a backup, "
                "or start again with `dora run --clear`."
            )
        return None


def _epoch(path: Path) -> int:
    suffix = path.stem.rpartition("_")[2]
    return int(suffix) if suffix.isdigit() else -1


# Sharded files: the shards of all processes lie in a folder that `checkpoint.th` names.

SHARDS_KEY = "sharded"  # in `checkpoint.th`: {"folder": name, "checksums": {file: CRC-32}}
READ_SIZE = 1 << 24  # bytes


class ShardedCheckpoints:
    """Writes the shards of a model that is distributed over processes, beside `checkpoint.th`.

    Args:
        checkpoints: Checkpoint files of the run, for all state that is not sharded.
        in_background: Train while files are written.
    """

    def __init__(self, checkpoints: Checkpoints, in_background: bool = True):
        self.checkpoints = checkpoints
        self.in_background = in_background
        self.writing: Future | None = None
        self.finished = threading.Event()  # `checkpoint.th` names the shards that were written
        self.problem: Exception | None = None
        # A group of its own, since it communicates during training.
        self.group = tp.cast(dist.ProcessGroup, dist.new_group(backend="gloo"))

    def save(self, shards: State, rest: State, name: str, epoch: int | None = None) -> None:
        """Write the shards of this process and, in the first one, the rest. All have to call it.

        Args:
            shards: Nested dictionaries of the tensors of this process.
            rest: All other state, the same in every process.
            name: Name of the folder, the same in every process.
            epoch: As for `Checkpoints.save`.
        """
        self.wait()
        folder = self.checkpoints.folder / name
        if is_rank_zero() and folder.exists():
            shutil.rmtree(folder)  # incomplete, from a killed run
        barrier()
        # A copy of the present state; the best weights are never changed in place.
        kept = {k: v if k == "best_state" else copy.deepcopy(v) for k, v in rest.items()}
        writer = dcp.FileSystemWriter(folder, sync_files=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of its own deprecated functions
            if not self.in_background:
                dcp.save(shards, storage_writer=writer)
                self._finish(folder, kept, epoch)
                return
            writing = dcp.async_save(shards, storage_writer=writer, process_group=self.group)
        self.writing = tp.cast(Future, writing)
        self.finished.clear()
        self.writing.add_done_callback(lambda done: self._finish(folder, kept, epoch, done))

    def wait(self) -> None:
        """Wait until the latest checkpoint is on the disk.

        Raises:
            CheckpointError: It cannot be written; the previous checkpoint is unchanged.
        """
        writing, self.writing = self.writing, None
        if writing is not None:
            try:
                writing.result()
            except Exception as error:
                self.problem = self.problem or error
            self.finished.wait()  # the result is set before callbacks have run
            barrier()
        problem, self.problem = self.problem, None
        if problem is not None:
            raise CheckpointError(
                f"The sharded checkpoint in {self.checkpoints.folder} cannot be written: "
                f"{problem}. {WRITE_HINT}"
            ) from problem

    def _finish(
        self, folder: Path, rest: State, epoch: int | None, done: Future | None = None
    ) -> None:
        """Name the complete shards in `checkpoint.th` and delete those no longer used."""
        try:
            if not is_rank_zero() or (done is not None and done.exception() is not None):
                return
            checksums = {path.name: checksum(path) for path in sorted(folder.iterdir())}
            fsync_folder(folder)
            named = {SHARDS_KEY: {"folder": folder.name, "checksums": checksums}}
            self.checkpoints.save(rest | named, epoch)
            self._delete_unused()
        except Exception as error:  # in a thread of its own: raised by `wait`
            self.problem = error
            if done is None:
                raise
        finally:
            self.finished.set()

    def _delete_unused(self) -> None:
        files = [
            self.checkpoints.last,
            self.checkpoints.previous,
            *self.checkpoints.epoch_checkpoints(),
        ]
        used = {shard_folder(read_state(file, mmap=True)) for file in files if file.is_file()}
        for folder in self.checkpoints.folder.glob("shards_*"):
            if folder.name not in used:
                shutil.rmtree(folder)


def shard_folder(state: tp.Mapping[str, tp.Any]) -> str | None:
    """Name of the folder with the shards of a checkpoint; `None` if it is not sharded."""
    return (state.get(SHARDS_KEY) or {}).get("folder")


def read_shards(shards: State, state: State, folder: Path) -> None:
    """Read the shards of a checkpoint into the tensors of nested dictionaries, in place.

    Args:
        shards: As for `save`; the number of processes may differ.
        state: The checkpoint that names the shards.
        folder: Folder of the run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(shards, storage_reader=dcp.FileSystemReader(folder / state[SHARDS_KEY]["folder"]))


def verify_with_shards(file: Path) -> None:
    """Verify the checksums of a checkpoint and of its shards.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    verify(file)
    state = read_state(file, mmap=True)
    if shard_folder(state) is None:
        return
    folder = file.parent / state[SHARDS_KEY]["folder"]
    for name, expected in state[SHARDS_KEY]["checksums"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{file} needs {folder / name}, which is missing.")
        if checksum(folder / name) != expected:
            raise CheckpointError(f"{folder / name} is damaged: its checksum does not match.")


def checksum(path: Path) -> int:
    """Compute the CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(READ_SIZE):
            crc = zlib.crc32(chunk, crc)
    return crc
