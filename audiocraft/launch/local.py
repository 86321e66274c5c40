"""Local grids: the experiments of a grid as processes on this machine.

Each experiment is a process of its own that outlives this one: closing the terminal ends the
monitoring, not the training. Ctrl-C is passed on, so that running experiments save and stop. When
the grid is run again, an experiment that failed or was stopped resumes; one that is done, or that
another process is running, is left alone.
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
from .explorer import last_error, log_grid

PENDING, RUNNING, DONE, FAILED = "PENDING", "RUNNING", "COMPLETED", "FAILED"
STOPPED, ELSEWHERE = "STOPPED", "ELSEWHERE"
POLL_SECONDS = 0.2  # between two checks of the processes
LOG = "local.log"
LOCK = ".running"


@dataclass
class LocalRun:
    """One experiment of a grid, with the attributes of a job that Dora's table reads."""

    xp: XP
    status: str = PENDING
    note: str = ""
    process: subprocess.Popen | None = None
    job: None = None  # on SLURM
    slot: int = 0
    log_size: int = 0  # bytes, of earlier runs
    started: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> Path:
        """File with the output of the process."""
        return self.xp.folder / LOG

    @property
    def current_job_id(self) -> str | None:
        return None if self.process is None else str(self.process.pid)

    def state(self) -> str:
        return self.status

    def is_done(self) -> bool:
        return self.status not in (PENDING, RUNNING)


class LocalGrid:
    """Runs the experiments of a grid on this machine.

    Args:
        main: Entry point of experiments.
        sheeps: The experiments, with their SLURM jobs if they have any.
        parallel: Number of experiments that run at the same time; GPUs and CPUs are divided evenly.

    Raises:
        ConfigError: `parallel` is less than 1.
    """

    def __init__(self, main: DecoratedMain, sheeps: list[Sheep], parallel: int = 1):
        if parallel < 1:
            raise ConfigError(f"--parallel is {parallel}. Give at least 1.")
        self.main = main
        self.parallel = parallel
        self.runs = [get_local_run(main, sheep) for sheep in sheeps]
        self.signals = 0  # number of signals to stop

    def run(self) -> int:
        """Run the experiments that are not done; returns the exit status."""
        before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not all(run.is_done() for run in self.runs):
                self._start_next()
                time.sleep(POLL_SECONDS)
                for run in self.runs:
                    if run.status == RUNNING:
                        self._poll(run)
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
        if self.signals:
            return 130
        return int(any(run.status in (FAILED, ELSEWHERE) for run in self.runs))

    def _start_next(self) -> None:
        """Start pending experiments in free slots."""
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
        """Start the process of an experiment; `False` if another process runs it."""
        self.main.init_xp(run.xp)
        lock = open(run.xp.folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            run.status, run.note = ELSEWHERE, f"process {lock.read()} is running it"
            lock.close()
            log_grid(f"{run.xp.sig}: {run.note}; left alone.")
            return False
        module = f"{self.main.package}.{self.main.main_module}"
        with lock, open(run.log, "ab") as log:
            run.log_size = log.tell()
            run.process = subprocess.Popen(
                [sys.executable, "-m", module, *run.xp.argv],
                env=os.environ | self._resources(run.slot),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # survives the end of the terminal
                pass_fds=[lock.fileno()],  # holds the lock until it ends
            )
            lock.truncate(0)
            lock.write(str(run.process.pid))
        run.status, run.started = RUNNING, time.monotonic()
        log_grid(f"{run.xp.sig} runs as process {run.process.pid}: {run.log}")
        return True

    def _resources(self, slot: int) -> dict[str, str]:
        """CPUs and GPUs of a slot, as environment variables."""
        variables = {}
        if "OMP_NUM_THREADS" not in os.environ:
            variables["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.parallel))
        gpus = torch.cuda.device_count()
        if gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else [str(index) for index in range(gpus)]
            variables["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        return variables

    def _poll(self, run: LocalRun) -> None:
        """Check whether an experiment has ended, and how."""
        process = tp.cast(subprocess.Popen, run.process)
        if process.poll() is None:
            return
        took = time.monotonic() - run.started
        if process.returncode == 0:
            run.status = DONE
            log_grid(f"{run.xp.sig} is done after {took:.0f} s.")
        elif self.signals:
            run.status, run.note = STOPPED, "stopped; resumes when run again"
            log_grid(f"{run.xp.sig} has stopped.")
        else:
            run.status = FAILED
            run.note = failure_reason(run, process.returncode)
            log_grid(f"{run.xp.sig} failed after {took:.0f} s: {run.note} (log: {run.log})")

    def _stop(self, signum: int, frame: tp.Any) -> None:
        """Pass a signal on to the running experiments; no other is started."""
        self.signals += 1
        for run in self.runs:
            if run.status == RUNNING and run.process is not None:
                run.process.send_signal(signum)

    def show(self, explorer: Explorer) -> None:
        """Print Dora's table of a grid."""
        monitor(RunGridArgs(), self.main, explorer, tp.cast(list[Sheep], self.runs), print)


def failure_reason(run: LocalRun, status: int) -> str:
    """Describe why a process failed."""
    if status < 0:
        hint = ", often because memory ran out" if -status == signal.SIGKILL else ""
        return f"{signal.Signals(-status).name} ended it{hint}"
    return last_error(run.log, since=run.log_size) or f"exit status {status}"


def get_local_run(main: DecoratedMain, sheep: Sheep) -> LocalRun:
    """Return an experiment with its state: done, running elsewhere, or pending."""
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
                f"SLURM does not report the state of its job {sheep.job.job_id}; if it has ended, "
                f"delete {sheep._job_file}"
            )
        else:
            run.note = f"its SLURM job {sheep.job.job_id} is {state}"
        log_grid(f"{sheep.xp.sig}: {run.note}; left alone.")
    return run
