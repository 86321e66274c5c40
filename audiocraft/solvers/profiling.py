"""A trace of a few updates: what takes the time.

Open the file at https://ui.perfetto.dev or in a browser's `chrome://tracing`.
"""

import logging
import typing as tp
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

logger = logging.getLogger(__name__)

SKIPPED, WARMUP, RECORDED = 2, 2, 4  # updates


class Profiler:
    """Writes a trace of the first updates of a run, and a table of the costliest operations.

    Args:
        folder: Where `trace.json` and `operations.txt` go.
        enabled: Otherwise nothing is done.
        device: Whose kernels are recorded beside the CPU's.
    """

    def __init__(self, folder: Path, enabled: bool, device: torch.device):
        self.folder = folder
        self.running: profile | None = None
        if enabled:
            activities = [ProfilerActivity.CPU]
            if device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self.running = profile(
                activities=activities,
                schedule=schedule(wait=SKIPPED, warmup=WARMUP, active=RECORDED, repeat=1),
                on_trace_ready=self._write,
            )
            self.running.start()

    def step(self) -> None:
        """An update has ended."""
        if self.running is not None:
            self.running.step()

    def _write(self, done: tp.Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        done.export_chrome_trace(str(self.folder / "trace.json"))
        table = done.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
        (self.folder / "operations.txt").write_text(table)
        logger.info("The profile of %d updates is in %s.", RECORDED, self.folder)
        self.running = None
