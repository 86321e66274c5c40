"""A grid on a real SLURM: submitted, followed, edited, cancelled by hand, and told in sentences.

`make slurm` runs this and fails where SLURM cannot run; elsewhere it is skipped then.
"""

import json
import os
import time

import pytest

from . import slurm as slurm_module
from .conftest import command
from .slurm import Slurm, wait_until, why_not
from .trial_grids import write_grids

SHORT = {"optim.lr": 1e-3}
LONG = {"optim.epochs": 100_000, "evaluate.every": 0, "generate.every": 0}
TIMEOUT = 240  # seconds for a job that takes twenty on an idle machine


@pytest.fixture
def slurm():
    reason = why_not()
    if reason and os.environ.get("AUDIOCRAFT_SLURM") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with Slurm() as slurm:
        yield slurm


def test_a_machine_that_cannot_run_slurm_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm_module, "SYSTEM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install --no-install-recommends slurm-wlm munge" in (why_not() or "")
    for name in (*slurm_module.DAEMONS, *slurm_module.COMMANDS):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not() == "only root can run SLURM's daemons"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert why_not() is None


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_a_grid_on_slurm(slurm, tmp_path):
    outputs = tmp_path / "outputs"

    def dora_grid(*experiments):
        env = write_grids(tmp_path, two=list(experiments)) | slurm.env
        options = ("--no_git_save", "--no_monitoring")
        run = command("-m", "dora", "grid", "two", *options, outputs=outputs, **env)
        assert run.returncode == 0, run.output
        return run.output

    def state(job):
        return slurm.states().get(job)

    # Both are submitted, and start.
    told = dora_grid(SHORT, LONG)
    assert told.count("Scheduled job") == 2
    wait_until(lambda: state("2") == "RUNNING", "the second job runs", TIMEOUT)
    folders = {job: (outputs / "by_id" / job).resolve() for job in ("1", "2")}
    wait_until(lambda: len(history(folders["2"])) > 1, "it learns", TIMEOUT)

    # One leaves the grid: its job goes on all the same.
    told = dora_grid(SHORT)
    assert f"{folders['2'].name} has left this grid, but its job 2 is RUNNING" in told
    assert "To cancel it: scancel 2" in told
    assert state("2") == "RUNNING"

    # It is cancelled by hand: it saves, and the grid says how it goes on.
    slurm.call("scancel", "2")
    wait_until(lambda: state("2") == "CANCELLED", "it is cancelled", TIMEOUT)
    wait_until(lambda: state("1") == "COMPLETED", "the first is done", TIMEOUT)
    told = dora_grid(SHORT, LONG)
    assert f"Job 2 of {folders['2'].name} was cancelled" in told
    assert "dora grid two --retry" in told
    assert "Scheduled" not in told
    assert slurm.states() == {"1": "COMPLETED", "2": "CANCELLED"}

    # What was learnt is where it belongs, and the table shows it.
    (epoch,) = history(folders["1"])
    assert f"{epoch['valid']['ce']:.3f}" in told
    for job, folder in folders.items():
        assert (folder / "checkpoint.th").is_file(), job
        log = (folder / "submitit" / f"{job}_0_log.out").read_text()
        assert f"Experiment {folder.name} in {folder}" in log
    assert list((folders["1"] / "samples" / "1" / "style").glob("*.wav"))


def history(folder):
    file = folder / "history.json"
    for _ in range(2):  # it is replaced by a finished file
        if file.exists():
            return json.loads(file.read_text())
        time.sleep(0.01)
    return []
