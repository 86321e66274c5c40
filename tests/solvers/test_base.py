"""Base solver: failing samples and history files do not end a run; metrics are read late."""

import types
from collections import deque

import pytest
import torch

from audiocraft.errors import AudioError, ConfigError
from audiocraft.solvers.base import StandardSolver
from audiocraft.solvers.progress import DeferredMetrics, RunningMean
from audiocraft.solvers.signals import Stopped


class Toy(StandardSolver):
    """A solver with only the attributes that the tested methods use."""

    epoch = 3
    history: list = []

    def __init__(self, error: Exception, execute_only: str | None = None):
        self.error = error
        self.cfg = types.SimpleNamespace(execute_only=execute_only)  # type: ignore
        self.unread = deque()

    def build(self): ...
    def run_step(self, idx, batch, metrics): ...
    def continue_from(self, source): ...
    def log_results(self): ...

    def generate_samples(self):
        raise self.error

    def finish_metrics(self, metrics):
        if metrics["ce"] != metrics["ce"]:
            raise ConfigError("loss became nan")
        return metrics


ERRORS = [OSError(28, "No space left"), SyntaxError("in a title"), torch.OutOfMemoryError("20 GiB")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_failing_samples_log_one_warning(error, caplog):
    assert Toy(error).generate() == {"samples": 0, "real_time_factor": 0}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(error) in record.message


def test_signal_during_samples_ends_the_run():
    with pytest.raises(Stopped):
        Toy(Stopped(15)).generate()


def test_failing_samples_raise_in_the_generate_stage():
    with pytest.raises(AudioError, match="No space left"):
        Toy(ERRORS[0], "generate").generate()
    with pytest.raises(SyntaxError):
        Toy(ERRORS[1], "generate").generate()


def test_unwritable_history_logs_a_warning(caplog):
    solver = Toy(ERRORS[0])

    def update_history(history):
        raise solver.error

    solver.xp = types.SimpleNamespace(link=types.SimpleNamespace(update_history=update_history))
    solver.write_history()
    assert "No space left" in caplog.text


def test_metrics_are_read_with_a_lag_and_checked_before_saving():
    solver, mean = Toy(ERRORS[0]), RunningMean()
    for ce in (1.0, float("nan")):
        solver.unread.append((DeferredMetrics({"ce": torch.tensor(ce)}), 2, mean))
    solver.read_metrics(lag=1)
    assert mean.means() == {"ce": 1.0}
    with pytest.raises(ConfigError, match="nan"):
        solver.save()
