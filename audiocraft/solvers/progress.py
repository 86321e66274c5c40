"""Progress within an epoch: deferred metrics, running means, resumable state, checkpoint timer."""

import math
import sys
import time
import typing as tp

import torch
from torch import Tensor
from tqdm import tqdm

T = tp.TypeVar("T")
Metrics = tp.Mapping[str, float | Tensor]


class DeferredMetrics:
    """Metrics of one step, copied from the device without waiting for it.

    `values` reads them. If it is called after the next step has been enqueued, the device computes
    while the host waits, so no kernel launch is delayed.

    Args:
        metrics: Floats and scalar tensors.
    """

    def __init__(self, metrics: Metrics):
        self.names = list(metrics)
        metrics = {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        device = {k: v for k, v in metrics.items() if isinstance(v, Tensor) and not v.is_cpu}
        self.floats = {k: float(v) for k, v in metrics.items() if k not in device}
        self.device_names, self.event = list(device), None
        self.copy = torch.empty(0)
        if device:
            stacked = torch.stack([v.float().reshape(()) for v in device.values()])
            # Only CUDA copies asynchronously, into pinned memory; other devices in `values`.
            is_async = stacked.is_cuda
            self.copy = stacked.to("cpu", non_blocking=True) if is_async else stacked
            if is_async:
                self.event = torch.cuda.Event()
                self.event.record()

    def values(self) -> dict[str, float]:
        """The metrics as floats, in their original order; waits for the step if need be."""
        if self.event is not None:
            self.event.synchronize()
        read = self.floats | dict(zip(self.device_names, self.copy.tolist()))
        return {name: read[name] for name in self.names}


class RunningMean:
    """Weighted means of named metrics over batches.

    Unlike `flashy.averager` its sums can be saved and restored in the middle of an epoch.
    """

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def add(self, values: tp.Mapping[str, float], weight: float = 1.0) -> dict[str, float]:
        """Add the metrics of one batch; returns the means so far."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * float(value)
            self.weights[name] = self.weights.get(name, 0.0) + weight
        return self.means()

    def means(self) -> dict[str, float]:
        return {name: total / self.weights[name] for name, total in self.sums.items()}


class EpochProgress:
    """Updates done in the current epoch and the running means of their metrics.

    Part of every checkpoint: a run that resumes in the middle of an epoch ends with the same
    history as an uninterrupted one.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Reset for a new epoch."""
        self.updates = 0
        self.mean = RunningMean()

    def state_dict(self) -> dict[str, tp.Any]:
        return {
            "updates": self.updates,
            "sums": dict(self.mean.sums),
            "weights": dict(self.mean.weights),
        }

    def load_state_dict(self, state: tp.Mapping[str, tp.Any]) -> None:
        self.updates = state["updates"]
        self.mean.sums = dict(state["sums"])
        self.mean.weights = dict(state["weights"])


class CheckpointTimer:
    """Decides when a checkpoint is due within an epoch.

    Args:
        every_updates: Updates between two checkpoints; 0 or `None` disables the rule.
        every_minutes: Minutes between two checkpoints; 0 or `None` disables the rule.
        now: Clock, in seconds.
    """

    def __init__(
        self,
        every_updates: int | None = None,
        every_minutes: float | None = None,
        now: tp.Callable[[], float] = time.monotonic,
    ):
        self.every_updates = every_updates or 0
        self.every_seconds = 60 * (every_minutes or 0)
        self.now = now
        self.restart()

    def restart(self) -> None:
        """Restart the interval; called when a checkpoint has been written."""
        self.since = self.now()

    def is_due(self, updates: int) -> bool:
        """Whether to save after `updates` updates of the epoch."""
        if self.every_updates and updates % self.every_updates == 0:
            return True
        return bool(self.every_seconds) and self.now() - self.since >= self.every_seconds


def progress_bar(
    items: tp.Iterable[T], description: str, done: int, total: int, lines: int, enabled: bool = True
) -> "tqdm[T]":
    """Wrap items in a bar that shows rate and remaining time.

    Args:
        items: What is iterated over.
        description: Text before the bar.
        done: Items that were done before, in a resumed epoch.
        total: All items, those included.
        lines: Lines to write for all items where the output is not a terminal.
        enabled: Show the bar.
    """
    is_log = not sys.stderr.isatty()
    return tqdm(  # not `tqdm.auto`, which would iterate over the items twice
        items,
        desc=description,
        initial=done,
        total=total,
        disable=not enabled,
        dynamic_ncols=True,
        mininterval=0 if is_log else 0.2,  # seconds
        miniters=max(1, total // max(1, lines)) if is_log else None,
        maxinterval=math.inf,
    )
