"""Start-up time of the commands.

    python -m benchmarks.startup --rounds 5 --json FILE

Each command runs in its own process and prints its help, so that imports take almost all the time.
Commands are measured in alternating rounds. CPU time is reported as well, since it depends less on
the load of the machine. PyTorch alone is the lower limit.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import typing as tp
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "import torch": ("-c", "import torch"),
    "from audiocraft.models import MusicGen": ("-c", "from audiocraft.models import MusicGen"),
    "audiocraft manifest": ("-m", "audiocraft", "manifest", "--help"),
    "audiocraft generate": ("-m", "audiocraft", "generate", "--help"),
    "train.py": ("train.py", "--help"),
}


class Timing(tp.NamedTuple):
    """Times of a process, in seconds."""

    clock: float
    cpu: float


def measure(argv: tp.Sequence[str]) -> Timing:
    """Measure one run of Python with arguments."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(clock, cpu)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.startup", description="Measure the start-up time of commands."
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (5)")
    parser.add_argument("--json", type=Path, help="output file")
    args = parser.parse_args(argv)
    timings: dict[str, list[Timing]] = {name: [] for name in COMMANDS}
    for _ in range(args.rounds):
        for name, command in COMMANDS.items():
            timings[name].append(measure(command))
    for name, runs in timings.items():
        clock, cpu = (median(numbers) for numbers in zip(*runs))
        print(f"{name:40} {clock:6.2f} s, of a CPU {cpu:6.2f} s")
    if args.json:
        report = {"load": os.getloadavg(), "seconds": timings}  # of each run: clock, CPU
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
