"""How far an epoch is, and when it is time to save: what makes a run resumable at every update."""

import time
import typing as tp


class RunningMean:
    """Weighted means of named numbers that come in one batch after the other."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def add(self, values: tp.Mapping[str, float], weight: float = 1.0) -> dict[str, float]:
        """Take one batch in; returns the means so far."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * float(value)
            self.weights[name] = self.weights.get(name, 0.0) + weight
        return self.means()

    def means(self) -> dict[str, float]:
        return {name: total / self.weights[name] for name, total in self.sums.items()}


class EpochProgress:
    """The updates that an epoch has behind it, with the means of their metrics.

    Part of every checkpoint, so that a run goes on in the middle of an epoch and ends with the
    history of one that was never interrupted.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """A new epoch begins."""
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
    """Tells when a checkpoint is due within an epoch.

    Args:
        every_updates: Updates between two checkpoints; 0 or `None` is never.
        every_minutes: Minutes between two checkpoints; 0 or `None` is never.
        now: A clock, in seconds.
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
        self.saved()

    def saved(self) -> None:
        """A checkpoint was just written."""
        self.since = self.now()

    def is_due(self, updates: int) -> bool:
        """Whether to save after so many updates of the epoch."""
        if self.every_updates and updates % self.every_updates == 0:
            return True
        return bool(self.every_seconds) and self.now() - self.since >= self.every_seconds
