"""Check of SLURM's commands, replaced by scripts."""

import pytest

from audiocraft.errors import ConfigError
from audiocraft.launch.cluster import check_slurm, is_scheduling

ALL = ("sbatch", "srun", "scancel", "sacct")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs shell scripts as the only commands."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(*names, script="exit 0"):
        for name in names:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return make


def test_all_slurm_commands_are_sufficient(install):
    install(*ALL)
    check_slurm()


def test_a_machine_without_slurm_is_an_error_that_names_local_runs(install):
    with pytest.raises(
        ConfigError, match=r"not available here \(sbatch, srun, scancel missing\).*local"
    ):
        check_slurm()


def test_a_cluster_without_accounting_is_an_error(install):
    install("sbatch", "srun", "scancel")
    with pytest.raises(ConfigError, match=r"sacct fails \(it is missing\)"):
        check_slurm()


def test_the_message_of_sacct_is_quoted(install):
    install(*ALL)
    install(
        "sacct", script="echo a hint >&2; echo Slurm accounting storage is disabled >&2; exit 1"
    )
    with pytest.raises(ConfigError, match=r"fails \(Slurm accounting storage is disabled\)"):
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
def test_only_commands_that_submit_jobs_need_slurm(argv, expected):
    assert is_scheduling(argv) == expected
