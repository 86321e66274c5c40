"""Several processes learn what one would, and what they saved is of use to any number of them."""

import os
import signal
import socket
import time

import pytest
import torch

from .conftest import SMALL, Run, command, started

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distribution")]

JOB = (
    *SMALL,
    "dataset.batch_size=4",
    "dataset.valid.num_samples=6",
    "dataset.generate.num_samples=3",
    "optim.ema.use=true",
    "optim.ema.updates=1",
    "as_one_process=true",
    "checkpoint.every_updates=1",
)
SHARDED = (*JOB, "fsdp.use=true", "fsdp.param_dtype=float32", "fsdp.sharding_strategy=full_shard")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
MEASURED = ("ce", "grad_norm", "lr", "ce_unigram", "ce_q1", "ce_q4", "samples")


def assert_alike(run: Run, other: Run, tolerance: float = 1e-5):
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
def alone(tmp_path_factory) -> Run:
    return command("-m", "dora", "run", *JOB, outputs=tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Run:
    return command(*TORCHRUN, "train.py", *SHARDED, outputs=tmp_path_factory.mktemp("sharded"))


def test_two_processes_learn_what_one_does(alone, tmp_path):
    two = command("-m", "dora", "run", "-d", "--ddp_workers=2", *JOB, outputs=tmp_path)
    assert_alike(two, alone)
    assert two.folder.name == alone.folder.name
    names = [sorted(p.name for p in (r.folder / "samples/2/style").iterdir()) for r in (two, alone)]
    assert names[0] == names[1]


def test_a_sharded_model_learns_what_a_whole_one_does(sharded, alone):
    assert_alike(sharded, alone)
    assert list(sharded.folder.glob("shards_*"))


def test_weights_that_wait_in_the_memory_of_the_cpu_learn_the_same(alone, tmp_path):
    """Without a GPU nothing is copied to and fro, but the same calls are made and meet."""
    offloaded = (*TORCHRUN, "train.py", *SHARDED, "fsdp.cpu_offload=true")
    assert_alike(command(*offloaded, outputs=tmp_path), alone)


def test_shards_in_half_precision_learn_in_pieces_with_checkpointing(alone, tmp_path):
    options = ("fsdp.use=true", "fsdp.param_dtype=float16", "fsdp.sharding_strategy=shard_grad_op")
    options += ("optim.accumulate=2", "transformer_lm.checkpointing=torch")
    run = command(*TORCHRUN, "train.py", *JOB, *options, outputs=tmp_path)
    assert run.returncode == 0, run.output
    for stage in ("train", "valid"):  # in pieces, excerpts and start of the codebooks differ
        ours, theirs = run.history[-1][stage]["ce"], alone.history[-1][stage]["ce"]
        assert ours == pytest.approx(theirs, abs=0.1)


def test_two_nodes_learn_what_one_does(alone, tmp_path):
    """Two agents of torchrun that meet over the network, one process each."""
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
    assert_alike(first, alone)


def test_a_sharded_run_is_a_model_by_its_signature(sharded):
    script = (
        "from audiocraft.models import MusicGen;"
        f"m = MusicGen.get_pretrained('//sig/{sharded.folder.name}', device='cpu');"
        "m.set_generation_params(duration=0.5);"
        "print('SHAPE', list(m.generate(['calm piano'], seed=1).shape))"
    )
    run = command("-c", script, outputs=sharded.outputs)
    assert "SHAPE [1, 1, 8000]" in run.output, run.output


# A process that dies or hangs in an update, while the others wait for it.
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


def faulty(folder, what: str, number: int = 3, ranks: str = "01") -> str:
    """A script that trains, with a fault in an update of some processes."""
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(FAULTY.format(what=what, number=number, ranks=ranks))
    return str(script)


def killed(tmp_path, *job: str, workers: int) -> None:
    script = faulty(tmp_path / "scripts", KILL)
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", str(workers))
    run = command(*launch, script, *job, outputs=tmp_path / "outputs", PYTHONPATH=".")
    assert run.returncode != 0, run.output
    assert (run.folder / "checkpoint.th").exists(), run.output


def test_a_killed_sharded_run_ends_like_one_that_was_not(sharded, tmp_path):
    killed(tmp_path, *SHARDED, workers=2)
    rest = command(*TORCHRUN, "train.py", *SHARDED, outputs=tmp_path / "outputs")
    assert "goes on in epoch 2" in rest.output or "goes on after epoch 1" in rest.output
    assert rest.history == sharded.history
    ours, theirs = (
        torch.load(run.folder / "checkpoint.th", weights_only=True)["best_state"]["model"]
        for run in (rest, sharded)
    )
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []


def test_one_process_goes_on_where_a_sharded_run_was_killed(sharded, tmp_path):
    killed(tmp_path, *SHARDED, workers=2)
    rest = command("-m", "dora", "run", *SHARDED, outputs=tmp_path / "outputs")
    assert "goes on" in rest.output
    assert_alike(rest, sharded)


def test_a_sharded_run_goes_on_where_one_process_was_killed(sharded, tmp_path):
    killed(tmp_path, *SHARDED, workers=1)
    rest = command(*TORCHRUN, "train.py", *SHARDED, outputs=tmp_path / "outputs")
    assert "goes on" in rest.output
    assert_alike(rest, sharded)


def test_a_damaged_part_is_told_and_the_checkpoint_before_taken(sharded, tmp_path):
    killed(tmp_path, *SHARDED, workers=2)
    (folder,) = (tmp_path / "outputs" / "xps").iterdir()
    named = torch.load(folder / "checkpoint.th", weights_only=True)["sharded"]["folder"]
    part = next((folder / named).glob("*.distcp"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    rest = command(*TORCHRUN, "train.py", *SHARDED, outputs=tmp_path / "outputs")
    assert "checkpoint.previous.th instead" in rest.output
    assert rest.returncode == 0, rest.output
    assert rest.history == sharded.history


@pytest.mark.parametrize("what", [KILL, "time.sleep(1000)"], ids=["dies", "hangs"])
def test_a_process_that_is_lost_ends_the_job_and_the_others_say_where_they_were(what, tmp_path):
    script = faulty(tmp_path / "scripts", what, ranks="1")
    deadlock = ("deadlock.use=true", "deadlock.timeout=20")  # seconds; longer than a slow update
    began = time.monotonic()
    run = command(*TORCHRUN, script, *JOB, *deadlock, outputs=tmp_path / "outputs", PYTHONPATH=".")
    assert run.returncode != 0
    assert time.monotonic() - began < 250  # not the half hour for which gloo would wait
    log = (run.folder / "solver.log.0").read_text()
    assert "in run_epoch" in log, log
    if what != KILL:
        assert "faulty" in (run.folder / "solver.log.1").read_text()


def test_both_processes_save_and_stop_at_the_same_update(sharded, tmp_path):
    """A scheduler signals every process, but not all at the same moment."""
    script = faulty(
        tmp_path / "scripts", f"os.kill(os.getpid(), {int(signal.SIGTERM)})", number=2, ranks="1"
    )
    run = command(*TORCHRUN, script, *SHARDED, outputs=tmp_path / "outputs", PYTHONPATH=".")
    assert "SIGTERM: the run has saved its state" in run.output
    rest = command(*TORCHRUN, "train.py", *SHARDED, outputs=tmp_path / "outputs")
    assert rest.history == sharded.history
    assert os.listdir(tmp_path / "outputs" / "xps") == [sharded.folder.name]
