"""Running the experiments of a grid on this machine, one after the other or a few at a time.

Each experiment is a process of its own, which outlives this one: whoever closes the terminal
stops watching, not training. Ctrl-C asks the experiments that run to save and stop. An experiment
that failed, or was stopped, goes on when the grid is run again; one that is done is left alone, and
so is one that somebody else is running.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
import typing as tp
from dataclasses import dataclass, field
from pathlib import Path

import torch
from dora.explore import Explorer
from dora.grid import RunGridArgs, monitor
from dora.main import DecoratedMain
from dora.shep import Sheep
from dora.xp import XP

from ..errors import ConfigError
from .explorer import last_error, say

PENDING, RUNNING, DONE, FAILED = "PENDING", "RUNNING", "COMPLETED", "FAILED"
STOPPED, ELSEWHERE = "STOPPED", "ELSEWHERE"
POLL = 0.2  # seconds between two looks at the processes
LOG = "local.log"
LOCK = ".running"


@dataclass
class LocalRun:
    """One experiment of a grid; to Dora's table it looks like a job."""

    xp: XP
    status: str = PENDING
    note: str = ""
    process: subprocess.Popen | None = None
    job: None = None  # on SLURM
    slot: int = 0
    log_size: int = 0  # of what earlier runs have printed
    began: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.xp.folder / LOG

    @property
    def current_job_id(self) -> str | None:
        return None if self.process is None else str(self.process.pid)

    def state(self) -> str:
        return self.status

    def is_done(self) -> bool:
        return self.status not in (PENDING, RUNNING)


class LocalGrid:
    """The experiments of a grid, run on this machine.

    Args:
        main: The entry point of experiments.
        sheeps: The experiments, with the SLURM jobs that they may have.
        parallel: How many run at the same time. They share the GPUs evenly, and the processors.

    Raises:
        ConfigError: `parallel` is less than 1.
    """

    def __init__(self, main: DecoratedMain, sheeps: list[Sheep], parallel: int = 1):
        if parallel < 1:
            raise ConfigError(f"--parallel is {parallel}. Give at least 1.")
        self.main = main
        self.parallel = parallel
        self.runs = [look_at(main, sheep) for sheep in sheeps]
        self.signals = 0  # how often this process was asked to stop

    def run(self) -> int:
        """Run what is not done; returns the exit status."""
        before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not all(run.is_done() for run in self.runs):
                self._start_next()
                time.sleep(POLL)
                for run in self.runs:
                    if run.status == RUNNING:
                        self._look_after(run)
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
        if self.signals:
            return 130
        return int(any(run.status in (FAILED, ELSEWHERE) for run in self.runs))

    def _start_next(self) -> None:
        """Fill the free slots."""
        taken = {run.slot for run in self.runs if run.status == RUNNING}
        free = [slot for slot in range(self.parallel) if slot not in taken]
        for run in [run for run in self.runs if run.status == PENDING]:
            if self.signals:
                run.status, run.note = STOPPED, "not started"
            elif free:
                run.slot = free[0]
                if self._start(run):
                    free.pop(0)

    def _start(self, run: LocalRun) -> bool:
        """Start an experiment's process; `False` if somebody else runs it."""
        self.main.init_xp(run.xp)
        lock = open(run.xp.folder / LOCK, "a+")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            run.status, run.note = ELSEWHERE, f"process {lock.read()} is training it"
            lock.close()
            say(f"{run.xp.sig}: {run.note}; left alone.")
            return False
        module = f"{self.main.package}.{self.main.main_module}"
        with lock, open(run.log, "ab") as log:
            run.log_size = log.tell()
            run.process = subprocess.Popen(
                [sys.executable, "-m", module, *run.xp.argv],
                env=os.environ | self._share(run.slot),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the terminal
                pass_fds=[lock.fileno()],  # and is locked as long as it lives
            )
            lock.truncate(0)
            lock.write(str(run.process.pid))
        run.status, run.began = RUNNING, time.monotonic()
        say(f"{run.xp.sig} runs as process {run.process.pid}: {run.log}")
        return True

    def _share(self, slot: int) -> dict[str, str]:
        """The part of the machine that an experiment gets, as environment variables."""
        share = {}
        if "OMP_NUM_THREADS" not in os.environ:
            share["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.parallel))
        gpus = torch.cuda.device_count()
        if gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else [str(index) for index in range(gpus)]
            share["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        return share

    def _look_after(self, run: LocalRun) -> None:
        """See whether an experiment has ended, and how."""
        process = tp.cast(subprocess.Popen, run.process)
        if process.poll() is None:
            return
        took = time.monotonic() - run.began
        if process.returncode == 0:
            run.status = DONE
            say(f"{run.xp.sig} is done after {took:.0f} s.")
        elif self.signals:
            run.status, run.note = STOPPED, "stopped; it goes on when run again"
            say(f"{run.xp.sig} has stopped.")
        else:
            run.status = FAILED
            run.note = how_it_ended(run, process.returncode)
            say(f"{run.xp.sig} failed after {took:.0f} s: {run.note} (log: {run.log})")

    def _stop(self, signum: int, frame: tp.Any) -> None:
        """Pass a request to stop on to the experiments that run; nothing new is started."""
        self.signals += 1
        for run in self.runs:
            if run.status == RUNNING and run.process is not None:
                run.process.send_signal(signum)

    def show(self, explorer: Explorer) -> None:
        """Print the table that Dora shows of a grid."""
        monitor(RunGridArgs(), self.main, explorer, tp.cast(list[Sheep], self.runs), print)


def how_it_ended(run: LocalRun, status: int) -> str:
    """Why a process failed."""
    if status < 0:
        hint = ", often for lack of memory" if -status == signal.SIGKILL else ""
        return f"{signal.Signals(-status).name} ended it{hint}"
    return last_error(run.log, since=run.log_size) or f"it ended with status {status}"


def look_at(main: DecoratedMain, sheep: Sheep) -> LocalRun:
    """An experiment as it is now: done, somebody else's, or to be run."""
    run = LocalRun(sheep.xp)
    epochs = len(main.get_xp_history(sheep.xp))
    wanted = sheep.xp.cfg.optim.epochs
    if epochs >= wanted:
        run.status = DONE
    elif sheep.job is not None and not sheep.is_done("force"):
        state = sheep.state()
        run.status = ELSEWHERE
        if state == "UNKNOWN":
            run.note = (
                f"SLURM does not say whether its job {sheep.job.job_id} runs; if it does not, "
                f"delete {sheep._job_file}"
            )
        else:
            run.note = f"its SLURM job {sheep.job.job_id} is {state}"
        say(f"{sheep.xp.sig}: {run.note}; left alone.")
    return run
