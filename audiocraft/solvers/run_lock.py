"""Lock on the folder of an experiment: only one run of an experiment at a time.

The first process of a run holds a POSIX lock on `run.lock`, which the system releases however the
process ends; the file names the holder. Windows has no such locks: there nothing is checked.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import typing as tp
from pathlib import Path

from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
HELD = (errno.EACCES, errno.EAGAIN)


class RunLock:
    """Exclusive right to run the experiment of a folder, until `release` or the process ends.

    Args:
        folder: Folder of the experiment.
        rank: Number of this process; those above 0 share the lock of the first.

    Raises:
        ConfigError: Another run of the experiment is in progress; names its host and process.
    """

    def __init__(self, folder: Path, rank: int = 0):
        self.path = folder / LOCK_FILE
        self.file: tp.IO[str] | None = None
        if fcntl is not None:
            (self._check_holder if rank else self._acquire)()

    def _acquire(self) -> None:
        self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115, kept open
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[union-attr]
        except OSError as error:
            self.file.close()
            self.file = None
            if error.errno in HELD:
                raise self._error(self._holder()) from error
            logger.warning("%s cannot be locked (%s): start no second run.", self.path, error)
            return
        self.file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "run": _run_id()}, self.file)
        self.file.flush()

    def _check_holder(self) -> None:
        """Refuse if the lock is held by a live process of another run on this machine."""
        holder = self._holder()
        if holder.get("host") == socket.gethostname() and holder.get("run") != _run_id():
            with contextlib.suppress(OSError):
                os.kill(holder["pid"], 0)  # raises if there is no such process
                raise self._error(holder)

    def _holder(self) -> dict[str, tp.Any]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def _error(self, holder: tp.Mapping[str, tp.Any]) -> ConfigError:
        process = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'unknown host')}"
        return ConfigError(
            f"This experiment is already running: {process} holds {self.path}. Wait until it ends "
            "or stop it, or change a setting to start another experiment."
        )

    def release(self) -> None:
        """Release the lock; an empty file stays."""
        if self.file is not None:
            self.file.truncate(0)
            self.file.close()
            self.file = None


def _run_id() -> str:
    """Identifier that the processes of one run on this machine have in common."""
    step = [os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return ".".join(map(str, step)) if all(step) else f"parent {os.getppid()}"
