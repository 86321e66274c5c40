"""A request to stop becomes a checkpoint between two updates.

Ctrl-C, SIGTERM (a scheduler or a person ends the job) and the signals with which SLURM announces
that a job's time is up are remembered; the solver asks between two updates, saves and ends the run.
A second Ctrl-C stops at once. After SIGUSR1 or SIGUSR2 a SLURM job is put back into the queue.
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
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)  # announce the end of a SLURM job
WAIT_FOR_REQUEUE = 60  # seconds; the scheduler ends the other processes within them

Handler = tp.Callable[[int, types.FrameType | None], tp.Any] | int | None


class Stopped(Exception):
    """The run was asked to stop."""

    def __init__(self, signum: int):
        self.signum = signum
        super().__init__(f"{signal.Signals(signum).name}: the run has saved its state and stops.")


class StopSignals:
    """Remembers that the run was asked to stop; `with` installs and removes its handlers."""

    def __init__(self):
        self.received = 0  # the signal's number, 0 for none
        self.before: dict[int, Handler] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # others may not
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
        # No logging here: the interrupted code may hold the lock of a handler.
        os.write(2, f"\n{name}: the run saves its state after this update and stops.\n".encode())

    def requeue(self, signum: int, rank: int) -> None:
        """Have a SLURM job started again, if that is what the signal asks for.

        A job of `dora grid` or `dora launch` has a handler of its own for this; any other SLURM job
        is put back by `scontrol requeue`. Outside SLURM nothing happens.
        """
        if signum not in REQUEUE:
            return
        handler = self.before.get(signum)
        if callable(handler):
            handler(signum, None)  # in the first process this does not return
        elif os.environ.get("SLURM_JOB_ID") and shutil.which("scontrol"):
            if rank == 0:
                _requeue_job(os.environ["SLURM_JOB_ID"])
        else:
            return
        time.sleep(WAIT_FOR_REQUEUE)  # a process that ends by itself could end the whole job


def _requeue_job(job: str) -> None:
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        logger.warning("The job %s could not be put back: %s", job, done.stderr.strip())
        sys.exit(128 + signal.SIGUSR1)
    logger.info("The job %s is in the queue again.", job)


def exit_status(signum: int) -> int:
    """What a process that a signal ended returns, as shells count it."""
    return 128 + signum
