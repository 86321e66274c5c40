"""A grid on a real SLURM: submission, monitoring, edits and manual cancellation.

`make slurm` runs this and fails where SLURM cannot run; elsewhere it is skipped.
"""

import json
import os
import sys
import time

import pytest

from . import slurm as slurm_module
from .conftest import QUICK, ROOT, command
from .slurm import Slurm, reason_unavailable, wait_until
from .trial_grids import write_grids

SHORT = {"optim.lr": 1e-3, "generate.every": 1}
LONG = {"optim.epochs": 100_000}
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
TIMEOUT = 240  # seconds; a job takes 20 s on an idle machine


@pytest.fixture
def slurm():
    reason = reason_unavailable()
    if reason and os.environ.get("AUDIOCRAFT_SLURM") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with Slurm() as slurm:
        yield slurm


def test_the_reason_is_given_if_slurm_cannot_run(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm_module, "SYSTEM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install --no-install-recommends slurm-wlm munge" in (reason_unavailable() or "")
    for name in (*slurm_module.DAEMONS, *slurm_module.COMMANDS):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert reason_unavailable() == "only root can run SLURM's daemons"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert reason_unavailable() is None


@pytest.mark.slow
def test_a_grid_runs_on_slurm(slurm, tmp_path):
    outputs = tmp_path / "outputs"

    def dora_grid(*experiments):
        env = write_grids(tmp_path, two=list(experiments)) | slurm.env
        options = ("--no_git_save", "--no_monitoring")
        run = command("-m", "dora", "grid", "two", *options, outputs=outputs, **env)
        assert run.returncode == 0, run.output
        return run.output

    def state(job):
        return slurm.states().get(job)

    # Both are submitted and start.
    output = dora_grid(SHORT, LONG)
    assert output.count("Scheduled job") == 2
    wait_until(lambda: state("2") == "RUNNING", "the second job runs", TIMEOUT)
    folders = {job: (outputs / "by_id" / job).resolve() for job in ("1", "2")}
    wait_until(lambda: len(history(folders["2"])) > 1, "its first epochs end", TIMEOUT)

    # One leaves the grid: its job continues.
    output = dora_grid(SHORT)
    assert f"{folders['2'].name} has left this grid, but its job 2 is RUNNING" in output
    assert "To cancel it: scancel 2" in output
    assert state("2") == "RUNNING"

    # A manual cancellation saves a checkpoint, and the grid logs how to resume.
    slurm.call("scancel", "2")
    wait_until(lambda: state("2") == "CANCELLED", "it is cancelled", TIMEOUT)
    wait_until(lambda: state("1") == "COMPLETED", "the first is done", TIMEOUT)
    output = dora_grid(SHORT, LONG)
    assert f"Job 2 of {folders['2'].name} was cancelled" in output
    assert "dora grid two --retry" in output
    assert "Scheduled" not in output
    assert slurm.states() == {"1": "COMPLETED", "2": "CANCELLED"}

    # The results are in their folders and in the table.
    (epoch,) = history(folders["1"])
    assert f"{epoch['valid']['ce']:.3f}" in output
    for job, folder in folders.items():
        assert (folder / "checkpoint.th").is_file(), job
        log = (folder / "submitit" / f"{job}_0_log.out").read_text()
        assert f"Experiment {folder.name} in {folder}" in log
    assert list((folders["1"] / "samples" / "1" / "style").glob("*.wav"))


JOB = """#!/bin/bash
#SBATCH --ntasks=2 --output={folder}/job.log --chdir={root}
export AUDIOCRAFT_DORA_DIR={folder}/outputs OMP_NUM_THREADS=1
srun {python} train.py {overrides}
"""


@pytest.mark.slow
def test_the_tasks_of_a_job_script_are_one_run(slurm, tmp_path):
    shared = ("fsdp.use=true", "fsdp.param_dtype=float32", "fsdp.cpu_offload=true")
    overrides = " ".join((*QUICK, *shared, "dataset.batch_size=4"))
    script = JOB.format(folder=tmp_path, root=ROOT, python=sys.executable, overrides=overrides)
    (tmp_path / "job.sh").write_text(script)
    job = slurm.call("sbatch", "--parsable", str(tmp_path / "job.sh"))
    wait_until(lambda: slurm.states().get(job) in ENDED, "the job ends", TIMEOUT)
    log = (tmp_path / "job.log").read_text()
    assert slurm.states()[job] == "COMPLETED", log
    (folder,) = (tmp_path / "outputs" / "xps").iterdir()
    assert "Process 1 of 2" in (folder / "solver.log.1").read_text()
    assert list(folder.glob("shards_*"))
    assert len(history(folder)) == 1


def history(folder):
    file = folder / "history.json"
    for _ in range(2):  # it is replaced by a finished file
        if file.exists():
            return json.loads(file.read_text())
        time.sleep(0.01)
    return []
