"""The door of a training run: what it makes of a command line and of an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.train import is_out_of_memory, main


def test_a_run_that_was_not_chosen_is_asked_for():
    with pytest.raises(ConfigError, match="Say which run is meant: solver="):
        main.resolve(["optim.epochs=2"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (["--help"], "solver/musicgen: debug, default, musicgen_base_32khz"),
        (["solver=musicgen/musicgen_style_tiny", "optim.lr=1", "--cfg", "job"], "  lr: 1\n"),
    ],
)
def test_questions_to_hydra_are_answered_and_begin_no_experiment(question, answer, tmp_path):
    run = subprocess.run(
        [sys.executable, "train.py", *question],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"AUDIOCRAFT_DORA_DIR": str(tmp_path / "outputs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer in run.stdout
    assert run.stderr == ""
    assert not (tmp_path / "outputs").exists()


def test_a_real_lack_of_memory_is_seen():
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
def test_every_device_says_it_in_its_own_words(error, expected):
    assert is_out_of_memory(error) == expected
