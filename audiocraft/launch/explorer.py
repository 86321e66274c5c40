"""Following the experiments of a grid on SLURM, and never cancelling what nobody asked to cancel.

Dora cancels the job of an experiment as soon as its grid no longer lists it: a line commented out
for a moment costs a training run. Here such a job runs on, and the log says how to cancel it.
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

from .grid_file import file_of, where

ENDED_BADLY = {
    "CANCELLED": "was cancelled",
    "MISSING": "was cancelled",
    "FAILED": "failed",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory",
    "TIMEOUT": "ran out of time",
}
TAIL = 20_000  # bytes at the end of a log in which its last error is looked for


class CarefulExplorer(Explorer):
    """What Dora asks about a grid. A subclass says which figures are shown."""

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
            sys.exit(f"error: The grid {grid} has an error: {where(error, file_of(self))}")
        for line in remarks(list(herd.sheeps), listed, shepherd.main.dora, grid):
            say(line)
        shepherd.__class__ = CarefulShepherd

    def process_sheep(self, sheep: Sheep, history: list[dict]) -> dict:
        """The figures of one experiment; what became of its job is said if it ended badly."""
        problem = what_went_wrong(sheep)
        if problem:
            retry = f"dora grid {grid_name(self, sheep.xp.dora)} --retry"
            say(f"{problem} To submit it again, so that it goes on: {retry}")
        return self.process_history(history)


class CarefulShepherd(Shepherd):
    """Dora's shepherd, for whom an experiment that left its grid has no job to be cancelled."""

    def get_sheep_from_sig(self, sig: str) -> Sheep:
        """An experiment that a grid no longer lists."""
        # Its settings are not needed, and where they cannot be read Dora would cancel its job.
        sheep = Sheep(XP(dora=self.main.dora, cfg=None, argv=[], delta=None, sig=sig))
        if sheep.job is not None and not sheep.is_done("force"):
            say(
                f"{sig} has left this grid, but its job {sheep.job.job_id} is {sheep.state()} and "
                f"stays so. To cancel it: scancel {sheep.job.job_id}"
            )
        sheep.job = None
        return sheep


def grid_name(explorer: Explorer, dora: DoraConfig) -> str:
    """What a grid is called on the command line."""
    return explorer.explore.__module__.removeprefix(f"{dora.grid_package}.")


def remarks(sigs: list[str], listed: int, dora: DoraConfig, grid: str) -> list[str]:
    """What may surprise about the experiments of a grid.

    Args:
        sigs: Signatures of the experiments, each once.
        listed: How many the grid file asked for.
        dora: Where experiments and grids are.
        grid: Name of the grid.
    """
    lines = []
    if listed > len(sigs):
        lines.append(
            f"The grid lists {listed} experiments of which only {len(sigs)} differ: the "
            "same settings are the same experiment."
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


def what_went_wrong(sheep: Sheep) -> str | None:
    """How the job of an experiment ended, in a sentence; `None` if it did not end badly."""
    ended = ENDED_BADLY.get(sheep.state() or "")
    if ended is None or sheep.job is None:
        return None
    said = (last_error(sheep.log) or "").rstrip(".")
    reason = f": {said}" if said and sheep.state() == "FAILED" else ""
    return f"Job {sheep.current_job_id} of {sheep.xp.sig} {ended}{reason}. Its log: {sheep.log}."


def last_error(log: Path | None, since: int = 0) -> str | None:
    """The last line of a log that tells an error, or else its last line.

    Args:
        log: The file.
        since: Bytes at its beginning that do not count.
    """
    if log is None or not log.is_file():
        return None
    with open(log, "rb") as file:
        file.seek(max(since, log.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"error: |\w*(Error|Exception)\b", line)]
    return (errors or lines or [None])[-1]


def say(text: str) -> None:
    """Print a line as Dora prints its own about grids."""
    simple_log("Grid:", text)
