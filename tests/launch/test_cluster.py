"""Whether jobs can be scheduled from here, with stand-ins for SLURM's commands."""

import pytest

from audiocraft.errors import ConfigError
from audiocraft.launch.cluster import check_slurm, is_scheduling

ALL = ("sbatch", "srun", "scancel", "sacct")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs commands that print and end as they are told, and nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(*names, script="exit 0"):
        for name in names:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return make


def test_a_machine_with_all_commands_can_schedule(install):
    install(*ALL)
    check_slurm()


def test_a_machine_without_slurm_is_told_to_run_here(install):
    with pytest.raises(
        ConfigError, match=r"no SLURM here \(sbatch, srun, scancel missing\).*local"
    ):
        check_slurm()


def test_a_cluster_without_accounting_is_told(install):
    install("sbatch", "srun", "scancel")
    with pytest.raises(ConfigError, match=r"sacct does not answer \(it is missing\)"):
        check_slurm()


def test_an_accounting_that_is_off_is_told_in_its_own_words(install):
    install(*ALL)
    install(
        "sacct", script="echo a hint >&2; echo Slurm accounting storage is disabled >&2; exit 1"
    )
    with pytest.raises(ConfigError, match=r"answer \(Slurm accounting storage is disabled\)"):
        check_slurm()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/venv/bin/dora", "grid", "two"], True),
        (["/site/dora/__main__.py", "launch"], True),
        (["/venv/bin/dora", "grid", "two", "--dry_run"], False),
        (["notebook"], False),
    ],
)
def test_only_commands_that_submit_need_slurm(argv, expected):
    assert is_scheduling(argv) == expected
