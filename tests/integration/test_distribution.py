"""Distributed training: equal to one process, and resumable with any number of processes."""

import os
import signal
import socket
import time

import pytest
import torch

from .conftest import (
    ROOT,
    SMALL,
    Run,
    assert_resumed,
    command,
    run_training,
    started,
    with_settings,
)

JOB = (
    *with_settings(SMALL, "dataset.batch_size=4", "dataset.valid.num_samples=6"),
    "evaluate.every=null",
    "generate.every=null",
    "optim.ema.use=true",
    "optim.ema.updates=1",
    "as_one_process=true",
    "checkpoint.every_updates=1",
)
SHARDED = (*JOB, "fsdp.use=true", "fsdp.param_dtype=float32", "fsdp.sharding_strategy=full_shard")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
MEASURED = ("ce", "grad_norm", "lr", "ce_unigram", "ce_q1", "ce_q4", "samples")


def assert_close_results(run: Run, other: Run, tolerance: float = 1e-5):
    assert run.returncode == 0, run.output
    assert len(run.history) == len(other.history)
    for ours, theirs in zip(run.history, other.history):
        assert ours.keys() == theirs.keys()
        for stage in ours:
            for name in set(MEASURED) & ours[stage].keys():
                assert ours[stage][name] == pytest.approx(theirs[stage][name], abs=tolerance), (
                    stage,
                    name,
                )


@pytest.fixture(scope="module")
def single_process(tmp_path_factory) -> Run:
    return run_training(*JOB, outputs=tmp_path_factory.mktemp("single_process"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Run:
    return torchrun(*SHARDED, outputs=tmp_path_factory.mktemp("sharded"))


def torchrun(*job: str, outputs) -> Run:
    run = command(*TORCHRUN, "train.py", *job, outputs=outputs)
    assert run.returncode == 0, run.output
    return run


def test_two_processes_give_the_results_of_one(single_process, tmp_path):
    two = command("-m", "dora", "run", "-d", "--ddp_workers=2", *JOB, outputs=tmp_path)
    assert_close_results(two, single_process)
    assert two.folder.name == single_process.folder.name


def test_a_sharded_model_gives_the_results_of_an_unsharded_one(sharded, single_process):
    assert_close_results(sharded, single_process)
    assert list(sharded.folder.glob("shards_*"))


@pytest.mark.slow
def test_processes_share_the_samples_that_are_generated(tmp_path):
    job = with_settings(JOB, "optim.epochs=1", "generate.every=1", "dataset.generate.num_samples=3")
    one = run_training(*job, outputs=tmp_path / "one")
    two = torchrun(*job, outputs=tmp_path / "two")
    names = [sorted(p.name for p in (r.folder / "samples/1/style").iterdir()) for r in (one, two)]
    assert len(names[0]) >= 3
    assert names[0] == names[1]


@pytest.mark.slow
def test_offloading_weights_to_the_cpu_does_not_change_results(single_process, tmp_path):
    """Without a GPU nothing is copied, but the same collective calls are made."""
    assert_close_results(
        torchrun(*SHARDED, "fsdp.cpu_offload=true", outputs=tmp_path), single_process
    )


@pytest.mark.slow
def test_shards_in_half_precision_train_in_micro_batches_with_checkpointing(
    single_process, tmp_path
):
    options = ("fsdp.use=true", "fsdp.param_dtype=float16", "fsdp.sharding_strategy=shard_grad_op")
    options += ("optim.accumulate=2", "transformer_lm.checkpointing=torch")
    run = torchrun(*JOB, *options, outputs=tmp_path)
    for stage in ("train", "valid"):  # excerpts and codebook initialization depend on micro-batches
        ours, theirs = run.history[-1][stage]["ce"], single_process.history[-1][stage]["ce"]
        assert ours == pytest.approx(theirs, abs=0.1)


@pytest.mark.slow
def test_two_nodes_give_the_results_of_one(single_process, tmp_path):
    """Two torchrun agents connected by network, with one process each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = (
        *("-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"),
        *("--master_addr=127.0.0.1", f"--master_port={port}"),
    )
    job = ("train.py", *JOB)
    with started(*node, "--node_rank=1", *job, outputs=tmp_path) as other:
        first = command(*node, "--node_rank=0", *job, outputs=tmp_path)
        assert other.wait(timeout=60) == 0
    assert_close_results(first, single_process)


def test_a_sharded_run_loads_by_its_signature(sharded):
    script = (
        "from audiocraft.models import MusicGen;"
        f"m = MusicGen.get_pretrained('//sig/{sharded.folder.name}', device='cpu');"
        "m.set_generation_params(duration=0.5);"
        "print('SHAPE', list(m.generate(['calm piano'], seed=1).shape))"
    )
    run = command("-c", script, outputs=sharded.outputs)
    assert "SHAPE [1, 1, 8000]" in run.output, run.output


# A process that exits or hangs in an update, while the others wait for it.
FAULTY = """
import os, signal, sys, time
from audiocraft import train
from audiocraft.solvers import musicgen

update, calls = musicgen.MusicGenSolver.update, [0]
def faulty(self):
    calls[0] += 1
    if calls[0] == {number} and os.environ["RANK"] in {ranks!r}:
        {what}
    return update(self)
musicgen.MusicGenSolver.update = faulty
train.main()
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def run_faulty(folder, what: str, *job: str, number: int = 3, ranks: str = "01", workers=2) -> Run:
    """Train with a fault in an update of some processes.

    Args:
        folder: Folder of the script and the experiment.
        what: Statement that is executed before the update.
        job: Overrides.
        number: Number of the update, from 1.
        ranks: Ranks of the processes with the fault, one digit each.
        workers: Number of processes.
    """
    script = folder / "scripts" / "train.py"
    script.parent.mkdir()
    script.write_text(FAULTY.format(what=what, number=number, ranks=ranks), encoding="utf-8")
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", str(workers), str(script))
    run = command(*launch, *job, outputs=folder / "outputs", PYTHONPATH=str(ROOT))
    assert run.returncode != 0, run.output
    return run


def kill(folder, *job: str, workers: int) -> None:
    run = run_faulty(folder, KILL, *job, workers=workers)
    assert (run.folder / "checkpoint.th").exists(), run.output


@pytest.mark.slow
def test_a_killed_sharded_run_ends_like_an_uninterrupted_one(sharded, tmp_path):
    kill(tmp_path, *SHARDED, workers=2)
    rest = torchrun(*SHARDED, outputs=tmp_path / "outputs")
    assert_resumed(rest)
    assert rest.history == sharded.history
    ours, theirs = (
        torch.load(run.folder / "checkpoint.th", weights_only=True)["best_state"]["model"]
        for run in (rest, sharded)
    )
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []


@pytest.mark.slow
def test_one_process_resumes_a_sharded_run(sharded, tmp_path):
    kill(tmp_path, *SHARDED, workers=2)
    rest = run_training(*SHARDED, outputs=tmp_path / "outputs")
    assert_resumed(rest)
    assert_close_results(rest, sharded)


@pytest.mark.slow
def test_a_sharded_run_resumes_that_of_one_process(sharded, tmp_path):
    kill(tmp_path, *SHARDED, workers=1)
    rest = torchrun(*SHARDED, outputs=tmp_path / "outputs")
    assert_resumed(rest)
    assert_close_results(rest, sharded)


@pytest.mark.slow
def test_the_previous_checkpoint_replaces_one_with_a_damaged_shard(sharded, tmp_path):
    kill(tmp_path, *SHARDED, workers=2)
    (folder,) = (tmp_path / "outputs" / "xps").iterdir()
    named = torch.load(folder / "checkpoint.th", weights_only=True)["sharded"]["folder"]
    part = next((folder / named).glob("*.distcp"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    rest = torchrun(*SHARDED, outputs=tmp_path / "outputs")
    assert "checkpoint.previous.th instead" in rest.output
    assert rest.history == sharded.history


@pytest.mark.slow
@pytest.mark.parametrize("what", [KILL, "time.sleep(1000)"], ids=["dies", "hangs"])
def test_a_lost_process_ends_the_job_and_others_log_their_stack(what, tmp_path):
    deadlock = ("deadlock.use=true", "deadlock.timeout=20")  # seconds; longer than a slow update
    began = time.monotonic()
    run = run_faulty(tmp_path, what, *JOB, *deadlock, ranks="1")
    assert time.monotonic() - began < 250  # not the 30-minute timeout of gloo
    log = (run.folder / "solver.log.0").read_text(encoding="utf-8")
    assert "in run_epoch" in log, log
    if what != KILL:
        assert "faulty" in (run.folder / "solver.log.1").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_update(sharded, tmp_path):
    """A scheduler signals every process, but not simultaneously."""
    signalled = f"os.kill(os.getpid(), {int(signal.SIGTERM)})"
    run = run_faulty(tmp_path, signalled, *SHARDED, number=2, ranks="1")
    assert "SIGTERM: the run has been saved" in run.output
    rest = torchrun(*SHARDED, outputs=tmp_path / "outputs")
    assert rest.history == sharded.history
    assert os.listdir(tmp_path / "outputs" / "xps") == [sharded.folder.name]
