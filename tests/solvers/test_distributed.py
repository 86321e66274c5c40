"""Distributed runs: ranks under SLURM and torchrun, ends of processes, watchdog."""

import os
import socket
import subprocess
import sys

import pytest

from audiocraft.errors import ConfigError
from audiocraft.solvers import distributed
from audiocraft.solvers.signals import Stopped

from ..fork_server import forked_python

OF_A_STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "2",
}


@pytest.fixture
def environment(monkeypatch):
    for name in ("SUBMITIT_EXECUTOR", "WORLD_SIZE", "RANK", *OF_A_STEP):
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)

    def begin(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        distributed.enter_srun_step()
        return distributed.rank(), distributed.world_size()

    return begin


def test_tasks_of_a_step_are_one_run(environment):
    assert environment(**OF_A_STEP) == (2, 4)


def test_batch_script_is_one_process(environment):
    script = {k: v for k, v in OF_A_STEP.items() if k != "SLURM_STEP_NUM_TASKS"}
    assert environment(**script | {"SLURM_PROCID": "0"}) == (0, 1)


def test_step_of_one_task_is_one_process(environment):
    alone = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    assert environment(**OF_A_STEP | alone) == (0, 1)


def test_torchrun_takes_precedence(environment):
    assert environment(**OF_A_STEP, WORLD_SIZE="2", RANK="1") == (1, 2)


def test_without_slurm_there_is_one_process(environment):
    assert environment() == (0, 1)


# Pairs of processes that end while threads of gloo still release many tensors.
ENDING = """
import os, sys
import torch
from audiocraft.errors import ConfigError
from audiocraft.solvers import distributed
from audiocraft.solvers.signals import Stopped

distributed.dora_init = torch.distributed.init_process_group  # without an experiment
os.environ |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
for port in sys.argv[1:]:
    children = []
    for rank in "01":
        children.append(os.fork())
        if not children[-1]:
            os.environ |= {"MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
            distributed.init_process_group(torch.device("cpu"))
            group = torch.distributed.group.WORLD  # kept, as a sharded model keeps it
            torch.distributed.all_reduce_coalesced([torch.zeros(1) for _ in range(50_000)])
            torch.distributed.destroy_process_group()
            sys.exit()
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.slow
def test_processes_end_after_threads_of_gloo_are_idle():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = [str(free.getsockname()[1]) for free in sockets]
    for free in sockets:
        free.close()
    run = subprocess.run(
        # Not forked: the exit of an interpreter is tested.
        [sys.executable, "-W", "ignore", "-c", ENDING, *ports],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
    )
    assert run.stdout.split() == ["0"] * 10, run.stderr


def all_reduce_of_a_lost_process(error: Exception):
    raise error


def test_error_is_logged_before_a_launcher_can_kill_the_process(tmp_path):
    log = tmp_path / "solver.log.0"
    lost = RuntimeError("Connection closed by peer")
    with pytest.raises(RuntimeError), distributed.Watchdog(60, log):
        all_reduce_of_a_lost_process(lost)
    assert "in all_reduce_of_a_lost_process" in log.read_text()
    assert "RuntimeError: Connection closed by peer" in log.read_text()


@pytest.mark.parametrize("error", [ConfigError("a batch of nan"), Stopped(15)])
def test_expected_errors_log_no_stack(error, tmp_path):
    log = tmp_path / "solver.log.0"
    with pytest.raises(type(error)), distributed.Watchdog(60, log):
        all_reduce_of_a_lost_process(error)
    assert log.read_text() == ""


HANG = """
import sys, time
from pathlib import Path
from audiocraft.solvers.distributed import Watchdog

def collective_that_never_ends():
    time.sleep(1000)

with Watchdog(float(sys.argv[1]), Path(sys.argv[2])) as watchdog:
    watchdog.feed()
    collective_that_never_ends()
"""


@pytest.mark.integration
def test_hanging_process_ends_and_its_stack_is_logged(tmp_path):
    log = tmp_path / "solver.log.0"
    ended = subprocess.run([forked_python(), "-c", HANG, "1", str(log)], check=False, timeout=300)
    assert ended.returncode == 1
    assert "in collective_that_never_ends" in log.read_text()


@pytest.mark.integration
def test_closed_watchdog_ends_no_process(tmp_path):
    script = HANG.replace("    collective_that_never_ends()", "time.sleep(2)")
    done = [forked_python(), "-c", script, "1", str(tmp_path / "solver.log.0")]
    assert subprocess.run(done, check=False, timeout=300).returncode == 0
