"""Monitoring of a grid on SLURM; jobs of experiments that left the grid are kept.

Dora cancels the job of an experiment as soon as its grid no longer lists it, so that a line that is
commented out for a moment ends a training run. Here such a job continues, and the log says how to
cancel it.
"""

import os
import re
import sys
from pathlib import Path

from dora import Explorer
from dora.conf import DoraConfig
from dora.explore import Launcher
from dora.log import simple_log
from dora.shep import Sheep, Shepherd
from dora.xp import XP

from .grid_file import error_location, grid_file_of

FAILED_STATES = {
    "CANCELLED": "was cancelled",
    "MISSING": "was cancelled",
    "FAILED": "failed",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory",
    "TIMEOUT": "ran out of time",
}
TAIL_BYTES = 20_000  # of the end of a log, searched for its last error


class KeepJobsExplorer(Explorer):
    """Explorer whose jobs are kept. Subclasses select the metrics that are shown."""

    def __call__(self, launcher: Launcher) -> None:
        herd, shepherd = launcher._herd, launcher._shepherd
        grid = grid_name(self, shepherd.main.dora)
        try:
            super().__call__(launcher)
            listed = len(herd.sheeps) + len(herd._pendings)
            herd.complete()
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            sys.exit(
                f"error: The grid {grid} has an error: {error_location(error, grid_file_of(self))}"
            )
        for line in grid_notes(list(herd.sheeps), listed, shepherd.main.dora, grid):
            log_grid(line)
        shepherd.__class__ = KeepJobsShepherd

    def process_sheep(self, sheep: Sheep, history: list[dict]) -> dict:
        """Return the metrics of one experiment; log the reason if its job failed."""
        problem = job_failure(sheep)
        if problem:
            retry = f"dora grid {grid_name(self, sheep.xp.dora)} --retry"
            log_grid(f"{problem} To submit it again, so that it resumes: {retry}")
        return self.process_history(history)


class KeepJobsShepherd(Shepherd):
    """Dora's shepherd, without a job to cancel for an experiment that left its grid."""

    def get_sheep_from_sig(self, sig: str) -> Sheep:
        """Return an experiment that a grid no longer lists."""
        # Without its settings: if they could not be read, Dora would cancel the job.
        sheep = Sheep(XP(dora=self.main.dora, cfg=None, argv=[], delta=None, sig=sig))
        if sheep.job is not None and not sheep.is_done("force"):
            log_grid(
                f"{sig} has left this grid, but its job {sheep.job.job_id} is {sheep.state()} and "
                f"stays so. To cancel it: scancel {sheep.job.job_id}"
            )
        sheep.job = None
        return sheep


def grid_name(explorer: Explorer, dora: DoraConfig) -> str:
    """Name of a grid on the command line."""
    return explorer.explore.__module__.removeprefix(f"{dora.grid_package}.")


def grid_notes(sigs: list[str], listed: int, dora: DoraConfig, grid: str) -> list[str]:
    """Report duplicates, and experiments that other grids share.

    Args:
        sigs: Signatures of the experiments, without duplicates.
        listed: Number of experiments that the grid file lists.
        dora: Configuration of Dora: the folders of experiments and grids.
        grid: Name of the grid.
    """
    lines = []
    if listed > len(sigs):
        lines.append(
            f"The grid lists {listed} experiments but only {len(sigs)} are different: "
            "equal settings are one experiment."
        )
    folder = dora.dir / dora._grids
    for sig in sigs:
        others = sorted({link.parent.name for link in folder.glob(f"*/{sig}")} - {grid})
        if others:
            lines.append(
                f"{sig} is also in {', '.join(others)}: one experiment, with one folder and one "
                "job for both."
            )
    return lines


def job_failure(sheep: Sheep) -> str | None:
    """Describe how the job of an experiment failed; `None` if it did not."""
    ended = FAILED_STATES.get(sheep.state() or "")
    if ended is None or sheep.job is None:
        return None
    message = (last_error(sheep.log) or "").rstrip(".")
    reason = f": {message}" if message and sheep.state() == "FAILED" else ""
    return f"Job {sheep.current_job_id} of {sheep.xp.sig} {ended}{reason}. Its log: {sheep.log}."


def last_error(log: Path | None, since: int = 0) -> str | None:
    """Return the last line of a log that reports an error, or else its last line.

    Args:
        log: The file.
        since: Number of bytes at its beginning to skip.
    """
    if log is None or not log.is_file():
        return None
    with open(log, "rb") as file:
        file.seek(max(since, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"error: |\w*(Error|Exception)\b", line)]
    return (errors or lines or [None])[-1]


def log_grid(text: str) -> None:
    """Print a line in the style of Dora's own about grids."""
    simple_log("Grid:", text)
