"""Monitoring of jobs, and cancellation only on request."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from dora.conf import DoraConfig, SlurmConfig
from dora.explore import Herd, Launcher
from dora.shep import Shepherd
from dora.xp import XP

from audiocraft.launch import explorer as module
from audiocraft.launch.explorer import KeepJobsExplorer, grid_notes, last_error


class Job:
    """A SLURM job in a given state."""

    def __init__(self, state, job_id="17"):
        self.job_id = job_id
        self.current = state
        self.watcher = SimpleNamespace(
            get_state=lambda job, mode: state,
            is_done=lambda job, mode: state not in ("RUNNING", "PENDING", "UNKNOWN"),
            update=lambda: None,
        )


class Main:
    """Entry point that uses command lines as experiments."""

    _slow = False
    name = "trial"

    def __init__(self, folder):
        self.dora = DoraConfig(grid_package="tests.launch")
        self.dora.dir = folder

    def get_xp(self, argv):
        return XP(self.dora, None, list(argv), delta=[tuple(arg.split("=")) for arg in argv])

    def value_to_argv(self, arg):
        return list(arg) if isinstance(arg, list) else [f"{k}={v}" for k, v in arg.items()]

    def get_argv_from_sig(self, sig):
        raise RuntimeError("Its settings cannot be read.")


@pytest.fixture
def main(tmp_path):
    return Main(tmp_path)


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(module, "log_grid", lines.append)
    return lines


@pytest.fixture
def shepherd(main, monkeypatch):
    """A shepherd whose experiments have the jobs in `jobs`, by signature."""
    jobs = {}
    init = module.Sheep.__init__

    def with_job(self, xp):
        init(self, xp)
        self.job = jobs.get(xp.sig)

    monkeypatch.setattr(module.Sheep, "__init__", with_job)
    shepherd = Shepherd(main)
    shepherd.jobs = jobs
    return shepherd


def read(shepherd, *experiments):
    """Experiments of a grid, as `dora grid` reads them: several are composed in parallel."""
    herd = Herd()
    with ThreadPoolExecutor(2) as pool:
        launcher = Launcher(shepherd, SlurmConfig(), herd, pool=pool)  # type: ignore[arg-type]
        KeepJobsExplorer(lambda launcher: [launcher(argv) for argv in experiments])(launcher)
    return herd


def test_an_error_in_a_grid_is_one_sentence(shepherd, monkeypatch):
    def mistaken(launcher):
        launcher({"lr": rate})  # type: ignore[name-defined] # noqa: F821

    launcher = Launcher(shepherd, SlurmConfig(), Herd())
    message = r"error: The grid test_explorer has an error: .*test_explorer.py, line \d+: NameError"
    with pytest.raises(SystemExit, match=message):
        KeepJobsExplorer(mistaken)(launcher)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(NameError):
        KeepJobsExplorer(mistaken)(launcher)


def test_an_experiment_removed_from_its_grid_keeps_its_job(shepherd, main, logged):
    read(shepherd, ["lr=2"])
    sig = main.get_xp(["lr=1"]).sig
    shepherd.jobs[sig] = Job("RUNNING")
    old = shepherd.get_sheep_from_sig(sig)
    assert old.is_done()  # so that Dora does not cancel it
    assert old.job is None
    assert logged == [
        f"{sig} has left this grid, but its job 17 is RUNNING and stays so. "
        "To cancel it: scancel 17"
    ]


def test_a_completed_job_is_not_logged(shepherd, main, logged):
    read(shepherd, ["lr=2"])
    sig = main.get_xp(["lr=1"]).sig
    shepherd.jobs[sig] = Job("COMPLETED")
    assert shepherd.get_sheep_from_sig(sig).job is None
    assert logged == []


def test_jobs_of_the_grid_are_cancelled_on_request(shepherd, logged):
    (sheep,) = read(shepherd, ["lr=2"]).sheeps.values()
    sheep.job = Job("RUNNING")
    shepherd.cancel_lazy(sheep=sheep)
    assert [job.job_id for job in shepherd._to_cancel] == ["17"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("CANCELLED", "was cancelled. Its log"),
        ("CANCELLED by 0", "was cancelled. Its log"),
        ("FAILED", "failed: error: no data. Its log"),
        ("TIMEOUT", "ran out of time. Its log"),
        ("OUT_OF_MEMORY", "ran out of memory. Its log"),
    ],
)
def test_a_failed_job_is_logged_with_the_command_to_retry(state, words, shepherd, logged):
    (sheep,) = read(shepherd, ["lr=2"]).sheeps.values()
    sheep.job = Job(state)
    sheep.log.parent.mkdir(parents=True)
    sheep.log.write_text("started\n\x1b[31merror: no data\x1b[0m\nsrun: task 0 exited\n")
    explorer = KeepJobsExplorer(lambda launcher: None)
    assert explorer.process_sheep(sheep, []) == {"epoch": 0}
    assert len(logged) == 1
    assert f"Job 17 of {sheep.xp.sig} {words}" in logged[0]
    assert logged[0].endswith("dora grid test_explorer --retry")


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "COMPLETED", "UNKNOWN"])
def test_other_job_states_are_not_logged(state, shepherd, logged):
    (sheep,) = read(shepherd, ["lr=2"]).sheeps.values()
    sheep.job = Job(state)
    KeepJobsExplorer(lambda launcher: None).process_sheep(sheep, [])
    assert logged == []


def test_duplicate_experiments_are_logged(shepherd, logged):
    herd = read(shepherd, ["lr=1"], ["lr=2"], ["lr=1"])
    assert len(herd.sheeps) == 2
    assert logged == [
        "The grid lists 3 experiments but only 2 are different: equal settings are one experiment."
    ]


def test_an_experiment_of_two_grids_is_reported(main):
    for grid, sig in (("mine", "aaaa"), ("other", "aaaa"), ("other", "bbbb")):
        folder = main.dora.dir / "grids" / grid
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sig).touch()
    assert grid_notes(["aaaa", "cccc"], 2, main.dora, "mine") == [
        "aaaa is also in other: one experiment, with one folder and one job for both."
    ]
    assert grid_notes(["bbbb"], 1, main.dora, "other") == []


def test_the_last_error_in_a_log_is_found(tmp_path):
    log = tmp_path / "log"
    assert last_error(log) is None
    log.write_text("error: of an earlier run\n")
    size = log.stat().st_size
    with open(log, "a", encoding="utf-8") as file:
        file.write("train 1/2: 10%\rtrain 1/2: 100%\nValueError: too short\nlast words\n")
    assert last_error(log) == "ValueError: too short"
    assert last_error(log, since=log.stat().st_size) is None
    log.write_text("x" * size + "\nonly this\n")
    assert last_error(log, since=size) == "only this"
