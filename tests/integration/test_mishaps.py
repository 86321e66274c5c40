"""What goes wrong in a run is told in a sentence, and nothing that was saved is lost."""

import json

import pytest
import torch

from .conftest import ROOT, SMALL, command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("options")]
JOB = (*SMALL, "checkpoint.every_updates=1")

# Code that runs before a training run, which something then befalls.
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
MISHAPS = {
    "a loss that is no number": (NAN, (), "The loss became nan in epoch 1"),
    "a full disk": (FULL, (), "No space left on device"),
    "a lost worker": (
        LOST_WORKER,
        ("dataset.num_workers=1", "optim.updates_per_epoch=8"),
        "lower dataset.num_workers",
    ),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_mishap_is_told_and_the_run_can_go_on(mishap, tmp_path):
    what, overrides, told = MISHAPS[mishap]
    run = command("-c", PREPARED.format(what=what), *JOB, *overrides, outputs=tmp_path)
    assert run.returncode == 1, run.output
    assert told in run.output
    state = torch.load(run.folder / "checkpoint.th", weights_only=True)
    assert state["progress"]["updates"] >= 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    rest = command("-m", "dora", "run", *JOB, *overrides, outputs=tmp_path)
    assert rest.returncode == 0, rest.output
    assert "goes on in epoch 1" in rest.output


def test_samples_that_cannot_be_written_do_not_stop_a_run(tmp_path):
    job = (*SMALL, "generate.path=solver.log.0/samples")  # in a file
    run = command("-m", "dora", "run", *job, outputs=tmp_path)
    assert run.returncode == 0, run.output
    assert "The samples of epoch 2 cannot be written: " in run.output
    assert len(run.history) == 2
    assert run.history[1]["generate"]["samples"] == 0
    again = command("-m", "dora", "run", *job, "execute_only=generate", outputs=tmp_path)
    assert again.returncode == 1
    assert "error: The samples cannot be written: " in again.output


def test_too_little_memory_says_what_to_lower(tmp_path):
    run = command("-c", PREPARED.format(what=NO_MEMORY), *JOB, outputs=tmp_path)
    assert run.returncode == 1
    assert "Tried to allocate 20.00 GiB. Raise optim.accumulate" in run.output
    assert "lower dataset.segment_duration or dataset.batch_size" in run.output
    assert "Traceback" not in run.output


def test_a_checkpoint_of_another_model_is_refused_and_stays(finished, tmp_path):
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


def test_a_data_set_that_changed_is_told(tmp_path):
    lines = (ROOT / "egs/example/train/data.jsonl").read_text().splitlines()
    manifest = tmp_path / "data.jsonl"
    manifest.write_text("\n".join(lines[:2]))
    job = (*SMALL, f"datasource.train={manifest}", "generate.every=null", "evaluate.every=null")
    one = [o for o in job if not o.startswith("optim.epochs")]
    command("-m", "dora", "run", *one, "optim.epochs=2", outputs=tmp_path)
    folder = next((tmp_path / "xps").iterdir())
    history = json.loads((folder / "history.json").read_text())
    assert len(history) == 2
    manifest.write_text("\n".join(lines[:5]))
    again = command("-m", "dora", "run", *one, "optim.epochs=2", outputs=tmp_path)
    assert "2 files of" in again.output, again.output
    assert "5 of" in again.output
    assert again.returncode == 0
