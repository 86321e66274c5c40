"""Who is taken for a process of the same run."""

import pytest

from audiocraft.solvers import distributed

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
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)

    def begin(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        distributed.join_step()
        return distributed.rank(), distributed.world_size()

    return begin


def test_the_tasks_of_a_step_are_one_run(environment):
    assert environment(**OF_A_STEP) == (2, 4)


def test_a_batch_script_is_one_process_whatever_it_may_start(environment):
    script = {k: v for k, v in OF_A_STEP.items() if k != "SLURM_STEP_NUM_TASKS"}
    assert environment(**script | {"SLURM_PROCID": "0"}) == (0, 1)


def test_a_step_of_one_task_is_one_process(environment):
    alone = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    assert environment(**OF_A_STEP | alone) == (0, 1)


def test_torchrun_has_its_own_say(environment):
    assert environment(**OF_A_STEP, WORLD_SIZE="2", RANK="1") == (1, 2)


def test_without_slurm_there_is_one_process(environment):
    assert environment() == (0, 1)
