"""Writing and reading the state of a run so that nothing that was saved is lost.

A checkpoint is a dictionary of tensors and plain values: `model`, `best_state`, `optimizer`,
`lr_scheduler`, `ema`, `history`, how far the epoch is, and the configuration as YAML text. It is
written beside its final name, flushed to the disk and moved there when complete, so a reader never
sees a part of one. The one before it stays: should the newest be damaged (its file carries a
CRC-32 of every tensor, which is verified first), the run goes on from there and says so.
"""

import contextlib
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
from .distributed import barrier

logger = logging.getLogger(__name__)

State = dict[str, tp.Any]
DESCRIPTION = ("xp.cfg", "xp.sig", "history")  # is in every file


def save_atomically(state: State, path: Path) -> None:
    """Write `state` to `path`; whoever reads sees the old file or the new one, never a part.

    Raises:
        CheckpointError: The file cannot be written; the old one is untouched.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError; a lost worker, say, is none of ours.
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        raise CheckpointError(
            f"Could not write the checkpoint {path}: {error}. Free space, mend the permissions or "
            "choose another folder with AUDIOCRAFT_DORA_DIR; the checkpoint before is untouched."
        ) from error


def fsync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power failure too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(path: Path) -> None:
    """See that a checkpoint is as it was written; torch alone takes flipped bits for weights.

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
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} does not fit.")


def read_state(path: Path, *, mmap: bool = False) -> State:
    """Read a checkpoint of ours on the CPU, without running any code that a file could carry.

    Args:
        path: A file that `verify` has passed.
        mmap: Leave the tensors on the disk until they are used.

    Raises:
        CheckpointError: The file holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error


def load_state(path: Path) -> State:
    """Verify and read a checkpoint.

    Raises:
        CheckpointError: It is missing, damaged, or no checkpoint of ours.
    """
    verify(path)
    return read_state(path)


class Checkpoints:
    """The checkpoint files of one run.

    Args:
        folder: Where `checkpoint.th`, `checkpoint.previous.th` and `checkpoint_<epoch>.th` go.
        save_last: Keep `checkpoint.th` up to date.
        save_every: Also keep every n-th epoch under its own name; 0 or `None` keeps none.
        keep_last: How many of those to keep; 0 or `None` keeps all.
        kept_states: Names in the state that those hold, to save space; `None` is all. They can
            then be used, but no run goes on from them.
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
        self.damaged: set[Path] = set()  # found so by `newest`

    @property
    def last(self) -> Path:
        return self.folder / "checkpoint.th"

    @property
    def previous(self) -> Path:
        return self.folder / "checkpoint.previous.th"

    def epoch_checkpoints(self) -> list[Path]:
        """Checkpoints kept under their epoch's number, oldest first."""
        numbered = [path for path in self.folder.glob("checkpoint_*.th") if _epoch(path) >= 0]
        return sorted(numbered, key=_epoch)

    def save(self, state: State, epoch: int | None = None) -> None:
        """Save, and drop what is no longer to be kept.

        A checkpoint that was found damaged does not take the place of the intact one before it.

        Args:
            state: What to save.
            epoch: The epoch that has just ended, counted from 1; `None` in the middle of one.
        """
        if epoch and self.save_every and epoch % self.save_every == 0:
            names = state if self.kept_states is None else {*self.kept_states, *DESCRIPTION}
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
        """The newest intact state, or `None` where the run has not saved any."""
        path = self.newest()
        return None if path is None else read_state(path)

    def newest(self, check: tp.Callable[[Path], tp.Any] = verify) -> Path | None:
        """The newest intact checkpoint, or `None` where the run has not saved any.

        Args:
            check: Raises a `CheckpointError` for a file that is not intact.

        Raises:
            CheckpointError: There are checkpoints, and all of them are damaged.
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
                logger.warning("%s Trying the checkpoint before.", error)
                self.damaged.add(path)
                problem = error
                continue
            if problem is not None:
                logger.warning("Going on from %s instead.", path)
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


StateDict = dict[str, Tensor]


class BestState:
    """Remembers the best of the state dicts that it was shown.

    Its own state is `{'model': state_dict}`, the form in which released checkpoints carry their
    weights, so that every checkpoint can be loaded for inference.
    """

    def __init__(self):
        self.model: StateDict = {}
        self.metric: float | None = None

    def is_better(self, metric: float) -> bool:
        """Whether `metric` is lower than ever."""
        return self.metric is None or metric < self.metric

    def update(self, metric: float, model: StateDict) -> bool:
        """Take a copy of `model` if `metric` is lower than ever; tell whether it was."""
        if not self.is_better(metric):
            return False
        self.metric = metric
        self.model = {key: value.detach().cpu().clone() for key, value in model.items()}
        return True

    def state_dict(self) -> dict[str, tp.Any]:
        return {"model": self.model, "metric": self.metric}

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        self.model = dict(state["model"])
        self.metric = state.get("metric")


KEY = "sharded"  # in `checkpoint.th`: {"folder": name, "checksums": {file: CRC-32}}
CHUNK = 1 << 24  # bytes that are read at a time


class ShardedCheckpoints:
    """Writes and reads the parts that belong to the `checkpoint.th` of a run.

    Args:
        checkpoints: Of the run; they hold what is not sharded.
        in_background: Go on training while files are written.
    """

    def __init__(self, checkpoints: Checkpoints, in_background: bool = True):
        self.checkpoints = checkpoints
        self.in_background = in_background
        self.writing: Future | None = None
        self.finished = threading.Event()  # and `checkpoint.th` names what was written
        self.problem: Exception | None = None
        # Of its own, since it works beside the training.
        self.group = tp.cast(dist.ProcessGroup, dist.new_group(backend="gloo"))

    def save(self, parts: State, rest: State, name: str, epoch: int | None = None) -> None:
        """Write this process's parts and, in the first one, the rest. All have to call it.

        Args:
            parts: Nested dictionaries of tensors, of which each process has its own.
            rest: Everything else, the same in every process.
            name: Of the folder, the same in every process.
            epoch: As for `Checkpoints.save`.
        """
        self.wait()
        folder = self.checkpoints.folder / name
        if is_rank_zero() and folder.exists():
            shutil.rmtree(folder)  # left by a run that was killed while it wrote
        barrier()
        # What is kept as it is now; the best weights are never changed in place.
        kept = {k: v if k == "best_state" else copy.deepcopy(v) for k, v in rest.items()}
        writer = dcp.FileSystemWriter(folder, sync_files=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about its own pieces
            if not self.in_background:
                dcp.save(parts, storage_writer=writer)
                self._finish(folder, kept, epoch)
                return
            writing = dcp.async_save(parts, storage_writer=writer, process_group=self.group)
        self.writing = tp.cast(Future, writing)
        self.finished.clear()
        self.writing.add_done_callback(lambda done: self._finish(folder, kept, epoch, done))

    def wait(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            CheckpointError: It could not be written; the checkpoint before is untouched.
        """
        writing, self.writing = self.writing, None
        if writing is not None:
            try:
                writing.result()
            except Exception as error:
                self.problem = self.problem or error
            self.finished.wait()  # results are there before callbacks have run
            barrier()
        problem, self.problem = self.problem, None
        if problem is not None:
            raise CheckpointError(
                f"The sharded checkpoint in {self.checkpoints.folder} could not be written: "
                f"{problem}. Free space or mend the permissions; the one before is untouched."
            ) from problem

    def _finish(
        self, folder: Path, rest: State, epoch: int | None, done: Future | None = None
    ) -> None:
        """When all parts are there, name them in `checkpoint.th` and drop those of older ones."""
        try:
            if not is_rank_zero() or (done is not None and done.exception() is not None):
                return
            checksums = {path.name: checksum(path) for path in sorted(folder.iterdir())}
            fsync_folder(folder)
            named = {KEY: {"folder": folder.name, "checksums": checksums}}
            self.checkpoints.save(rest | named, epoch)
            self._drop_unnamed()
        except Exception as error:  # it runs in a thread of its own: told by `wait`
            self.problem = error
            if done is None:
                raise
        finally:
            self.finished.set()

    def _drop_unnamed(self) -> None:
        files = [
            self.checkpoints.last,
            self.checkpoints.previous,
            *self.checkpoints.epoch_checkpoints(),
        ]
        named = {shard_folder(read_state(file, mmap=True)) for file in files if file.is_file()}
        for folder in self.checkpoints.folder.glob("shards_*"):
            if folder.name not in named:
                shutil.rmtree(folder)


def shard_folder(state: tp.Mapping[str, tp.Any]) -> str | None:
    """The folder of the parts that belong to a checkpoint; `None` where it has none."""
    return (state.get(KEY) or {}).get("folder")


def read_shards(parts: State, state: State, folder: Path) -> None:
    """Fill the tensors of nested dictionaries from the parts of a checkpoint, in place.

    Args:
        parts: As for `save`, of the present number of processes.
        state: The checkpoint that names them.
        folder: Of the run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(parts, storage_reader=dcp.FileSystemReader(folder / state[KEY]["folder"]))


def verify_with_shards(file: Path) -> None:
    """See that a checkpoint and all of its parts are as they were written.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    verify(file)
    state = read_state(file, mmap=True)
    if shard_folder(state) is None:
        return
    folder = file.parent / state[KEY]["folder"]
    for name, expected in state[KEY]["checksums"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{file} needs {folder / name}, which is missing.")
        if checksum(folder / name) != expected:
            raise CheckpointError(f"{folder / name} is damaged: its checksum does not fit.")


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
