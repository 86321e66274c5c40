"""Whether jobs can be scheduled from here: what Dora needs of SLURM."""

import shutil
import subprocess
from pathlib import Path

from ..errors import ConfigError

NEEDED = ("sbatch", "srun", "scancel")
TIMEOUT = 60  # seconds for the accounting to answer


def check_slurm() -> None:
    """See that this machine can submit jobs and follow them.

    Raises:
        ConfigError: It cannot; the message says what is missing and what to do instead.
    """
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"There is no SLURM here ({', '.join(missing)} missing), so nothing can be scheduled. "
            "Go to a machine of the cluster, or run the grid on this one: "
            "python -m audiocraft grid NAME --local. With --dry_run Dora only lists it."
        )
    problem = _why_no_accounting()
    if problem:
        raise ConfigError(
            f"SLURM's sacct does not answer ({problem}), and Dora knows the state of jobs from "
            "nothing else. Ask for the accounting to be switched on, or put a sacct of your own "
            "on the PATH that reads squeue: docs/EXPERIMENTS.md has one. To run the grid on this "
            "machine: python -m audiocraft grid NAME --local."
        )


def _why_no_accounting() -> str | None:
    if shutil.which("sacct") is None:
        return "it is missing"
    command = ["sacct", "-o", "JobID,State,NodeList", "--parsable2", "-j", "1"]  # as Dora does
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT} s"
    if not asked.returncode:
        return None
    return (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]


def is_scheduling(argv: list[str]) -> bool:
    """Whether a command line is one of Dora's that submits jobs, not one that only lists them."""
    return Path(argv[0]).stem in ("dora", "__main__") and "--dry_run" not in argv
