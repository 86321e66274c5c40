"""The interface of a logger, and loggers that write plain files anyone can read.

`metrics.csv` and `metrics.jsonl` hold one row per stage of an epoch: what the history holds, and
what was measured beside it, such as durations. Sounds and pictures lie in `samples/` already.
"""

import csv
import io
import json
import math
import os
import typing as tp
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import ConfigError


class Logger:
    """A place that shows how a run is doing. `step` counts epochs, from 1."""

    def start(self, step: int, stage: str | None = None) -> None:
        """Open; whatever is there of epoch `step` and later ones will come again.

        Args:
            step: The epoch that comes first.
            stage: Only this stage comes; `None` is all of them.
        """

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        """Show what a stage has measured."""

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        """Show a sound, `[C, T]`, where that can be done."""

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """Show a picture, `[height, width, 3]` in 0…255, where that can be done."""

    def close(self) -> None:
        """Nothing more will come."""


class JsonLinesLogger(Logger):
    """One JSON object per line: time, epoch, stage, metrics. What is no number is `null`."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int, stage: str | None = None) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        read = [(line, _read_line(line)) for line in lines]
        kept = [line for line, row in read if row and not comes_again(row, step, stage)]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        numbers = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "epoch": step, "stage": stage} | numbers)
        with open(self.path, "a") as file:
            file.write(f"{line}\n")


class CsvLogger(Logger):
    """A table with the columns epoch, stage, and every metric that any stage has."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, tp.Any]] = []

    def start(self, step: int, stage: str | None = None) -> None:
        self.rows = []
        if self.path.exists():
            with open(self.path, newline="") as file:
                rows = list(csv.DictReader(file))
            try:
                self.rows = [row for row in rows if not comes_again(row, step, stage)]
            except (KeyError, TypeError, ValueError):
                raise ConfigError(
                    f"{self.path} is not a table of ours: move it away and it is begun anew."
                ) from None
        self._write()

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        self.rows.append({"epoch": step, "stage": stage} | metrics)
        self._write()

    def _write(self) -> None:
        """Write it all: a new metric is a new column of every row."""
        columns = dict.fromkeys(["epoch", "stage", *(name for row in self.rows for name in row)])
        table = io.StringIO()
        writer = csv.DictWriter(table, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, table.getvalue())


def comes_again(row: tp.Mapping[str, tp.Any], step: int, stage: str | None) -> bool:
    """Whether a run that starts at `step` will write a row anew; see `Logger.start`."""
    return int(row["epoch"]) >= step and stage in (None, row["stage"])


def _read_line(line: str) -> dict[str, tp.Any] | None:
    """A line of JSON; `None` if a kill has cut it short."""
    try:
        row = json.loads(line)
        return {"epoch": int(row["epoch"]), "stage": row["stage"]}
    except (KeyError, TypeError, ValueError):
        return None


def write_atomically(path: Path, text: str) -> None:
    """Write a small file; whoever reads sees the old one or the new one."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    os.replace(unfinished, path)
