"""Resumption: a killed run ends with the weights and history of an uninterrupted one."""

import csv
import json
import signal
import time

import pytest
import torch

from .conftest import (
    NO_SAMPLES,
    SMALL,
    Run,
    assert_resumed,
    command,
    run_training,
    started,
    with_settings,
)

EVERY_UPDATE = (
    *with_settings(SMALL, "optim.updates_per_epoch=3", *NO_SAMPLES),
    "checkpoint.every_updates=1",
    "optim.ema.use=true",
    "logging.log_jsonl=true",
    "logging.log_csv=true",
)

# Starts a run after code that chooses where it is killed: `die_at(n, owner, name)` kills the
# process in the n-th call of a function.
DIE = """
import os, signal, sys, torch
from audiocraft import train
from audiocraft.solvers import checkpoint, musicgen

def die_at(number, owner, name, only=lambda *args: True, first=lambda *args: None):
    real, calls = getattr(owner, name), [0]
    def wrapper(*args, **kwargs):
        calls[0] += bool(only(*args))
        if calls[0] == number:
            first(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(owner, name, wrapper)

{where}
sys.argv = ["train.py", *sys.argv[1:]]
train.main()
"""
IN_AN_UPDATE = 'die_at(5, musicgen.MusicGenSolver, "update")'
MOMENTS = {  # the others in `make test-slow`
    "in a step of the second epoch": IN_AN_UPDATE,
    "in the middle of a checkpoint": """die_at(
        5, torch, "save", first=lambda state, file: file.write(b"half of a checkpoint"))""",
}
MORE_MOMENTS = {
    "in the first validation": """die_at(
        1, musicgen.MusicGenSolver, "run_step", only=lambda s, *a: s.current_stage == "valid")""",
    "between two names of a checkpoint": """die_at(
        5, checkpoint.os, "replace", only=lambda a, b: str(b).endswith("checkpoint.th"))""",
}


def weights(run: Run):
    state = torch.load(run.folder / "checkpoint.th", weights_only=True)
    return state["model"] | {f"ema.{k}": v for k, v in state["ema"]["state"]["model"].items()}


def logged(run: Run):
    """Content of both metric files, without measured times."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    with open(run.folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["stage"]) for row in rows] == [
        (str(line["epoch"]), line["stage"]) for line in lines
    ]
    return [
        {k: v for k, v in line.items() if k not in ("time", "duration", "real_time_factor")}
        for line in lines
    ]


def assert_same_end(run: Run, other: Run):
    assert run.returncode == 0, run.output
    assert run.history == other.history
    assert logged(run) == logged(other)
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Run:
    return run_training(*EVERY_UPDATE, outputs=tmp_path_factory.mktemp("uninterrupted"))


def kill(where: str, *job: str, outputs) -> Run:
    """Start a run that is killed."""
    killed = command("-c", DIE.format(where=where), *job, outputs=outputs)
    assert killed.returncode == -signal.SIGKILL, killed.output
    return killed


def cases(moments: dict[str, str], *marks):
    return [pytest.param(where, id=name, marks=marks) for name, where in moments.items()]


@pytest.mark.parametrize("where", cases(MOMENTS) + cases(MORE_MOMENTS, pytest.mark.slow))
def test_a_killed_run_ends_like_an_uninterrupted_one(where, uninterrupted, tmp_path):
    kill(where, *EVERY_UPDATE, outputs=tmp_path)
    rest = run_training(*EVERY_UPDATE, outputs=tmp_path)
    assert_resumed(rest)
    assert_same_end(rest, uninterrupted)


@pytest.mark.slow
def test_the_previous_checkpoint_replaces_a_damaged_one(uninterrupted, tmp_path):
    killed = kill(IN_AN_UPDATE, *EVERY_UPDATE, outputs=tmp_path)
    file = killed.folder / "checkpoint.th"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    rest = run_training(*EVERY_UPDATE, outputs=tmp_path)
    assert "checkpoint.previous.th instead" in rest.output
    assert_same_end(rest, uninterrupted)


@pytest.mark.slow
def test_data_workers_resume_at_the_same_batch(uninterrupted, tmp_path):
    """Workers prefetch batches; each batch is used once."""
    job = with_settings(EVERY_UPDATE, "dataset.num_workers=1")
    kill(IN_AN_UPDATE, *job, outputs=tmp_path)
    rest = run_training(*job, outputs=tmp_path)
    assert "epoch 2, after 1 updates" in rest.output
    assert_same_end(rest, uninterrupted)


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGUSR1, id="SIGUSR1", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_between_two_updates(signum, uninterrupted, tmp_path):
    """Without checkpoints within an epoch, only the signal saves one."""
    job = with_settings(EVERY_UPDATE, "checkpoint.every_updates=null")
    with started("-m", "dora", "run", *job, outputs=tmp_path) as process:
        log = tmp_path / "xps"
        until = time.monotonic() + 120
        while not any(b"Files:" in f.read_bytes() for f in log.glob("*/solver.log.0")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, output
    assert f"{signum.name}: the run" in output
    rest = run_training(*job, outputs=tmp_path)
    assert_same_end(rest, uninterrupted)
