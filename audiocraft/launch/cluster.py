"""SLURM commands that Dora needs, and a check that they work."""

import shutil
import subprocess
from pathlib import Path

from ..errors import ConfigError

SLURM_COMMANDS = ("sbatch", "srun", "scancel")
TIMEOUT = 60  # seconds, for sacct


def check_slurm() -> None:
    """Check that jobs can be submitted and monitored from this machine.

    Raises:
        ConfigError: A command of SLURM is missing or fails.
    """
    missing = [name for name in SLURM_COMMANDS if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"SLURM is not available here ({', '.join(missing)} missing). Use a machine of the "
            "cluster, or run the grid on this machine: audiocraft grid NAME --local. With "
            "--dry_run, Dora only lists the experiments."
        )
    problem = _accounting_problem()
    if problem:
        raise ConfigError(
            f"SLURM's sacct fails ({problem}), and Dora has no other source for the state of jobs. "
            "Ask for the accounting to be enabled, or put a script named sacct that reads squeue "
            "on the PATH (docs/EXPERIMENTS.md has one). To run the grid on this machine: "
            "audiocraft grid NAME --local."
        )


def _accounting_problem() -> str | None:
    if shutil.which("sacct") is None:
        return "it is missing"
    command = ["sacct", "-o", "JobID,State,NodeList", "--parsable2", "-j", "1"]  # as Dora does
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT} s"
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def is_scheduling(argv: list[str]) -> bool:
    """Whether a command line of Dora submits jobs, rather than only listing them."""
    return Path(argv[0]).stem in ("dora", "__main__") and "--dry_run" not in argv
