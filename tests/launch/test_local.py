"""Local grids, with small scripts as experiments."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dora.conf import DoraConfig
from dora.shep import Sheep
from dora.xp import XP

from audiocraft.errors import ConfigError
from audiocraft.launch.local import LOCK, LocalGrid
from grids._explorers import LMExplorer

pytestmark = pytest.mark.integration

# `python -m trial.train NAME DO`: an experiment; its second argument selects the action.
SCRIPT = """
import json, os, pathlib, signal, sys, time

def wait_for(path):
    while not path.exists():
        time.sleep(0.01)

name, what = sys.argv[1:]
folder = pathlib.Path(os.environ["TRIAL"])
(folder / name).touch()
print("began", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"))
if what == "fail":
    sys.exit("error: there is no data")
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / (name + ".saved")).touch() or 143))
    (folder / (name + ".listens")).touch()
    wait_for(folder / "never")
if what.startswith("after_"):
    wait_for(folder / what.removeprefix("after_"))
history = folder / "xps" / name / "history.json"
history.write_text(json.dumps([{"valid": {"ce": 1.5, "ppl": 4.5}}]))
"""


class Main:
    """Entry point of these experiments."""

    package, main_module = "trial", "train"

    def __init__(self, folder):
        self.dora = DoraConfig()
        self.dora.dir = folder

    def experiment(self, name, what):
        cfg = SimpleNamespace(optim=SimpleNamespace(epochs=1))
        return Sheep(XP(self.dora, cfg, [name, what], sig=name))

    def init_xp(self, xp):
        xp.folder.mkdir(parents=True, exist_ok=True)

    def get_xp_history(self, xp):
        return json.loads(xp.history.read_text()) if xp.history.exists() else []

    def get_names(self, xps):
        return [xp.sig for xp in xps], "base"


@pytest.fixture
def main(tmp_path, monkeypatch):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "train.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TRIAL", str(tmp_path))
    return Main(tmp_path)


def new_grid(main, parallel=1, **experiments):
    sheeps = [main.experiment(name, what) for name, what in experiments.items()]
    return LocalGrid(main, sheeps, parallel)


def states(grid):
    return {run.xp.sig: run.status for run in grid.runs}


def test_all_experiments_run_and_the_table_shows_their_metrics(main, capsys):
    grid = new_grid(main, a="train", b="train")
    assert grid.run() == 0
    assert states(grid) == {"a": "COMPLETED", "b": "COMPLETED"}
    grid.show(LMExplorer(lambda launcher: None))
    table = capsys.readouterr().out
    assert table.count("1.500") == 4  # the latest and the best value of each
    assert table.count("COM") == 2


def test_a_failed_experiment_is_reported_and_the_others_continue(main, capsys):
    grid = new_grid(main, a="fail", b="die", c="train")
    assert grid.run() == 1
    assert states(grid) == {"a": "FAILED", "b": "FAILED", "c": "COMPLETED"}
    assert [run.note for run in grid.runs] == [
        "error: there is no data",
        "SIGKILL ended it, often because memory ran out",
        "",
    ]
    stderr = capsys.readouterr().err
    assert f"(log: {grid.runs[0].log})" in stderr


def test_failed_experiments_are_retried_and_completed_ones_skipped(main, tmp_path):
    assert new_grid(main, a="fail", b="train").run() == 1
    (tmp_path / "b").unlink()
    again = new_grid(main, a="train", b="train")
    assert states(again)["b"] == "COMPLETED"
    assert again.run() == 0
    assert not (tmp_path / "b").exists()  # not started again


@pytest.mark.parametrize("parallel", [2, 3])
def test_experiments_run_in_parallel(parallel, main):
    """The first ends only after the second has started."""
    assert new_grid(main, parallel, a="after_b", b="train").run() == 0


def test_parallel_limits_the_number_of_running_experiments(main, tmp_path):
    grid = new_grid(main, 2, a="after_go", b="after_go", c="train")
    checked = []

    def look():
        while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
            time.sleep(0.01)
        checked.append((tmp_path / "c").exists())
        (tmp_path / "go").touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    assert grid.run() == 0
    watcher.join()
    assert checked == [False]


def test_an_interrupt_stops_running_and_pending_experiments(main, tmp_path):
    grid = new_grid(main, a="wait", b="train")

    def stop():
        while not (tmp_path / "a.listens").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop)
    watcher.start()
    assert grid.run() == 130
    watcher.join()
    assert states(grid) == {"a": "STOPPED", "b": "STOPPED"}
    assert (tmp_path / "a.saved").exists()
    assert not (tmp_path / "b").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_experiment_outlives_its_parent_and_remains_locked(main, tmp_path):
    """A second grid contains an experiment that is already running."""
    script = (
        "import sys; sys.path[:0] = ['.']\n"
        "from pathlib import Path\n"
        "from tests.launch.test_local import Main, new_grid\n"
        f"grid = new_grid(Main(Path({str(tmp_path)!r})), a='after_go')\n"
        "grid._start_next(); print(grid.runs[0].process.pid)\n"
    )
    starter = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert starter.returncode == 0, starter.stderr
    pid = starter.stdout.strip()
    grid = new_grid(main, a="train", b="train")
    assert grid.run() == 1
    assert states(grid) == {"a": "ELSEWHERE", "b": "COMPLETED"}
    assert grid.runs[0].note == f"process {pid} is running it"
    (tmp_path / "go").touch()
    with open(tmp_path / "xps" / "a" / LOCK, encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until it has ended
    assert states(new_grid(main, a="train")) == {"a": "COMPLETED"}


class Job:
    def __init__(self, state):
        self.job_id = "17"
        done = state == "FAILED"
        self.watcher = SimpleNamespace(
            get_state=lambda *_: state,
            is_done=lambda *_: done,
        )


@pytest.mark.parametrize(
    ("state", "status", "note"),
    [
        ("RUNNING", "ELSEWHERE", "its SLURM job 17 is RUNNING"),
        ("UNKNOWN", "ELSEWHERE", "SLURM does not report the state of its job 17"),
        ("FAILED", "PENDING", ""),
    ],
)
def test_an_experiment_with_a_slurm_job_is_not_started(state, status, note, main):
    sheep = main.experiment("a", "train")
    sheep.job = Job(state)
    (run,) = LocalGrid(main, [sheep]).runs
    assert run.status == status
    assert run.note.startswith(note)


def test_experiments_share_gpus_and_cpu_threads(main, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    grid = new_grid(main, 3, a="after_b", b="after_c", c="train")
    assert grid.run() == 0
    shares = [Path(run.log).read_text(encoding="utf-8").split()[1:] for run in grid.runs]
    assert shares == [["0", "2"], ["1", "2"], ["0", "2"]]


def test_device_and_thread_settings_of_the_user_are_kept(main, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert new_grid(main, 2, a="train")._resources(1) == {"CUDA_VISIBLE_DEVICES": "7"}


def test_parallel_zero_is_refused(main):
    with pytest.raises(ConfigError, match=r"--parallel is 0. Give at least 1"):
        new_grid(main, 0)
