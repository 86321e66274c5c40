"""Checkpoints of a model that no process holds as a whole.

Every process writes its part into `shards_<epoch>_<updates>`, in the background while training goes
on. When all parts are on the disk the first process writes `checkpoint.th`, which names that folder
and the checksums of its files; so a reader sees either the old pair or the new one. Parts are read
by any number of processes, also by one.

Method: PyTorch's distributed checkpoints, `torch.distributed.checkpoint`.
"""

import copy
import logging
import shutil
import threading
import typing as tp
import warnings
import zlib
from concurrent.futures import Future
from pathlib import Path

from flashy.distrib import is_rank_zero
from torch import distributed as dist
from torch.distributed import checkpoint as dcp

from ..errors import CheckpointError
from .checkpoint import Checkpoints, State, flush_folder, read_state, verify
from .distributed import barrier

logger = logging.getLogger(__name__)

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
            flush_folder(folder)
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
        files = [self.checkpoints.last, self.checkpoints.previous, *self.checkpoints.of_epochs()]
        named = {folder_of(read_state(file, mmap=True)) for file in files if file.is_file()}
        for folder in self.checkpoints.folder.glob("shards_*"):
            if folder.name not in named:
                shutil.rmtree(folder)


def folder_of(state: tp.Mapping[str, tp.Any]) -> str | None:
    """The folder of the parts that belong to a checkpoint; `None` where it has none."""
    return (state.get(KEY) or {}).get("folder")


def read_parts(parts: State, state: State, folder: Path) -> None:
    """Fill the tensors of nested dictionaries from the parts of a checkpoint, in place.

    Args:
        parts: As for `save`, of the present number of processes.
        state: The checkpoint that names them.
        folder: Of the run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(parts, storage_reader=dcp.FileSystemReader(folder / state[KEY]["folder"]))


def verify_with_parts(file: Path) -> None:
    """See that a checkpoint and all of its parts are as they were written.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    verify(file)
    state = read_state(file, mmap=True)
    if folder_of(state) is None:
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
