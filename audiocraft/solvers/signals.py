"""Signals: a run that is asked to stop saves a checkpoint between two updates.

Ctrl-C, SIGTERM and the signals with which SLURM announces a time limit are recorded; the solver
checks between two updates, saves and ends the run. A second Ctrl-C ends it at once. After SIGUSR1
or SIGUSR2 a SLURM job is requeued.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import typing as tp

logger = logging.getLogger(__name__)

STOP = (signal.SIGINT, signal.SIGTERM)
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)  # sent by SLURM before the time limit
WAIT_FOR_REQUEUE = 60  # seconds within which SLURM ends the processes of a requeued job

Handler = tp.Callable[[int, types.FrameType | None], tp.Any] | int | None


class Stopped(Exception):
    """The run received a signal to stop."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"{signal.Signals(signum).name}: the run has been saved and stops.")


class StopSignals:
    """Records signals to stop; a context manager that installs and restores handlers."""

    def __init__(self):
        self.received = 0  # signal number, 0 if there was none
        self.before: dict[int, Handler] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # a restriction of Python
            for signum in (*STOP, *REQUEUE):
                self.before[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *_: tp.Any) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}

    def _receive(self, signum: int, frame: types.FrameType | None) -> None:
        name = signal.Signals(signum).name
        if self.received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum
        # Not logged: the interrupted code may hold the lock of a logging handler.
        os.write(2, f"\n{name}: the run is saved after this update and stops.\n".encode())

    def requeue(self, signum: int, rank: int) -> None:
        """Requeue the SLURM job after a signal of `REQUEUE`; without SLURM nothing happens.

        Jobs of `dora grid` and `dora launch` have a signal handler for this, which is called; all
        others are requeued by `scontrol`.
        """
        if signum not in REQUEUE:
            return
        handler = self.before.get(signum)
        if callable(handler):
            handler(signum, None)  # does not return in the first process
        elif os.environ.get("SLURM_JOB_ID") and shutil.which("scontrol"):
            if rank == 0:
                _requeue_job(os.environ["SLURM_JOB_ID"])
        else:
            return
        time.sleep(WAIT_FOR_REQUEUE)  # a process that exits could end the whole job


def _requeue_job(job: str) -> None:
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.warning("The job %s could not be requeued: %s", job, done.stderr.strip())
        sys.exit(128 + signal.SIGUSR1)
    logger.info("The job %s is requeued.", job)


def exit_status(signum: int) -> int:
    """Exit status of a process that was ended by a signal, by the convention of shells."""
    return 128 + signum
