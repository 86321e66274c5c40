"""How long the commands take until they begin with what they were asked for.

    python -m benchmarks.startup --rounds 5 --json FILE

Every command runs in a process of its own, with its help or nothing to do, so that almost all is
imports. The commands take turns; CPU time is told beside the clock, since it depends less on what
else the machine does. PyTorch alone is the floor.
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


class Taken(tp.NamedTuple):
    """Seconds that a process took."""

    clock: float
    cpu: float


def measure(argv: tp.Sequence[str]) -> Taken:
    """Run Python with arguments, to its end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(clock, cpu)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Measure, print, write as JSON."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.startup", description="Measure how soon commands begin."
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (5)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(argv)
    taken: dict[str, list[Taken]] = {name: [] for name in COMMANDS}
    for _ in range(args.rounds):
        for name, command in COMMANDS.items():
            taken[name].append(measure(command))
    for name, runs in taken.items():
        clock, cpu = (median(numbers) for numbers in zip(*runs))
        print(f"{name:40} {clock:6.2f} s, of a CPU {cpu:6.2f} s")
    if args.json:
        report = {"load": os.getloadavg(), "seconds": taken}  # of each run: clock, CPU
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
