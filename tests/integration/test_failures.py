"""Failures of a run: one-sentence errors; saved files are kept."""

import re

import pytest
import torch

from .conftest import (
    QUICK,
    ROOT,
    SMALL,
    Run,
    assert_resumed,
    command,
    run_training,
    with_settings,
)

JOB = with_settings(QUICK, "optim.updates_per_epoch=2", "checkpoint.every_updates=1")

# Code that makes a training run fail, executed before it.
PREPARED = """
import os, signal, sys, torch
from audiocraft import train
from audiocraft.solvers import checkpoint, musicgen
{what}
sys.argv = ["train.py", *sys.argv[1:]]
train.main()
"""
NAN = """
real, calls = musicgen.codebook_cross_entropy, [0]
def spoilt(*args, **kwargs):
    calls[0] += 1
    loss, per_codebook = real(*args, **kwargs)
    return (loss * float("nan") if calls[0] == 2 else loss), per_codebook
musicgen.codebook_cross_entropy = spoilt
"""
FULL = """
real, calls = torch.save, [0]
def full(state, file, *args, **kwargs):
    calls[0] += 1
    if calls[0] == 2:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")
    return real(state, file, *args, **kwargs)
checkpoint.torch.save = full
"""
LOST_WORKER = """
import multiprocessing
real, calls = musicgen.MusicGenSolver.update, [0]
def update(self):
    calls[0] += 1
    if calls[0] == 2:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
    return real(self)
musicgen.MusicGenSolver.update = update
"""
NO_MEMORY = """
def update(self):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
musicgen.MusicGenSolver.update = update
"""
FAILURES = {
    "a loss that is not finite": (NAN, (), "nan"),
    "a full disk": (FULL, (), "No space left on device"),
    "a lost worker": (
        LOST_WORKER,
        ("dataset.num_workers=1", "optim.updates_per_epoch=8"),
        "dataset.num_workers",
    ),
}


def run_prepared(what: str, *job: str, outputs) -> Run:
    """Start a run that fails."""
    run = command("-c", PREPARED.format(what=what), *job, outputs=outputs)
    assert run.returncode == 1, run.output
    return run


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_run_reports_the_cause_and_can_be_resumed(failure, tmp_path):
    what, overrides, reason = FAILURES[failure]
    job = with_settings(JOB, *overrides)
    run = run_prepared(what, *job, outputs=tmp_path)
    assert reason in run.output
    state = torch.load(run.folder / "checkpoint.th", weights_only=True)
    assert state["progress"]["updates"] >= 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    assert_resumed(run_training(*job, outputs=tmp_path))


def test_samples_that_cannot_be_written_do_not_stop_a_run(tmp_path):
    job = with_settings(QUICK, "generate.every=1", "generate.path=solver.log.0/samples")  # a file
    run = run_training(*job, outputs=tmp_path)
    assert "samples of epoch 1" in run.output
    assert len(run.history) == 1
    assert run.history[0]["generate"]["samples"] == 0
    again = command("-m", "dora", "run", *job, "execute_only=generate", outputs=tmp_path)
    assert again.returncode == 1
    assert "error: The samples cannot be written" in again.output


def test_a_run_out_of_memory_names_the_settings_to_lower(tmp_path):
    run = run_prepared(NO_MEMORY, *JOB, outputs=tmp_path)
    assert "Tried to allocate 20.00 GiB" in run.output
    for key in ("optim.accumulate", "dataset.segment_duration", "dataset.batch_size"):
        assert key in run.output
    assert "Traceback" not in run.output


def test_a_checkpoint_of_another_model_is_refused_and_kept(finished, tmp_path):
    folder = tmp_path / "xps" / finished.folder.name
    folder.mkdir(parents=True)
    state = torch.load(finished.folder / "checkpoint.th", weights_only=True)
    state["model"]["emb.0.weight"] = state["model"]["emb.0.weight"][:, :8].clone()
    torch.save(state, folder / "checkpoint.th")
    before = (folder / "checkpoint.th").read_bytes()
    run = command("-m", "dora", "run", *SMALL, outputs=tmp_path)
    assert run.returncode == 1
    assert "does not fit the model of this experiment" in run.output
    assert "Traceback" not in run.output
    assert (folder / "checkpoint.th").read_bytes() == before


def test_a_resumed_run_warns_of_a_changed_manifest(tmp_path):
    lines = (ROOT / "egs/example/train/data.jsonl").read_text(encoding="utf-8").splitlines()
    manifest = tmp_path / "data.jsonl"
    manifest.write_text("\n".join(lines[:2]), encoding="utf-8")
    job = (*QUICK, f"datasource.train={manifest}")
    run = run_training(*job, outputs=tmp_path)
    assert len(run.history) == 1
    manifest.write_text("\n".join(lines[:5]), encoding="utf-8")
    again = run_training(*job, outputs=tmp_path)
    assert re.search(r"\b2 files,.* \b5 files,", again.output), again.output
