"""Entry point of training: command lines and errors."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.train import is_out_of_memory, main

from .fork_server import forked_python


def test_a_command_line_without_a_solver_is_refused():
    with pytest.raises(ConfigError, match="solver="):
        main.resolve(["optim.epochs=2"])


@pytest.mark.parametrize("argv", [["optim.lr=1e-3,2e-3"], ["-m"], ["seed=range(3)"]])
def test_a_sweep_is_refused_in_favour_of_a_grid(argv):
    with pytest.raises(ConfigError, match=r"grids/NAME\.py"):
        main.resolve(["solver=musicgen/musicgen_style_tiny", *argv])


def test_settings_of_a_grid_are_quoted():
    settings = {"label": "Jürgen's, #1", "continue_from": "/data/My Music (1)/a=b", "seed": 3}
    xp = main.resolve(main.value_to_argv([{"solver": "musicgen/debug"}, settings]))
    assert {name: xp.cfg[name] for name in settings} == settings


@pytest.mark.integration
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--help"], "solver/musicgen: debug, default, musicgen_base_32khz"),
        (["solver=musicgen/musicgen_style_tiny", "optim.lr=1", "--cfg", "job"], "  lr: 1\n"),
    ],
)
def test_flags_of_hydra_print_and_start_no_experiment(flags, expected, tmp_path):
    run = subprocess.run(
        [forked_python(), "train.py", *flags],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"AUDIOCRAFT_DORA_DIR": str(tmp_path / "outputs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in run.stdout
    assert run.stderr == ""
    assert not (tmp_path / "outputs").exists()


def test_a_failed_allocation_is_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognized_on_every_device(error, expected):
    assert is_out_of_memory(error) == expected
