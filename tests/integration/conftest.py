"""Runs of the real command line, small enough for a test."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]

# The tiny experiment, smaller still: everything is there, nothing has time to learn.
SMALL = shlex.split("""
    solver=musicgen/musicgen_style_tiny optim.epochs=2 optim.updates_per_epoch=2 device=cpu
    transformer_lm.dim=32 transformer_lm.num_heads=2 transformer_lm.num_layers=1
    dataset.batch_size=2 dataset.num_workers=0 dataset.segment_duration=5
    dataset.valid.num_samples=2 dataset.evaluate.num_samples=2 dataset.generate.num_samples=1
    generate.lm.gen_duration=1 num_threads=1
""")


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    returncode: int
    output: str
    outputs: Path  # the folder of experiments

    @property
    def folder(self) -> Path:
        """The folder of the only experiment."""
        (folder,) = (self.outputs / "xps").iterdir()
        return folder

    @property
    def history(self) -> list[dict]:
        return json.loads((self.folder / "history.json").read_text())


def started(*argv: str, outputs: Path, **env: str) -> subprocess.Popen:
    own = {"AUDIOCRAFT_DORA_DIR": str(outputs), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    return subprocess.Popen(
        [sys.executable, *argv],
        cwd=ROOT,
        env=os.environ | own | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def command(*argv: str, outputs: Path, timeout: float = 300, **env: str) -> Run:
    """Run `python ARGV` in the repository, with experiments under `outputs`."""
    with started(*argv, outputs=outputs, **env) as process:
        output, _ = process.communicate(timeout=timeout)
    return Run(process.returncode, output, outputs)


def interrupted(*argv: str, outputs: Path, timeout: float = 300) -> Run:
    """Run `python ARGV` and press Ctrl-C as soon as there is a checkpoint."""
    until = time.monotonic() + timeout
    with started(*argv, outputs=outputs) as process:
        while not list(outputs.glob("xps/*/history.json")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=timeout)
    return Run(process.returncode, output, outputs)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """A small experiment that ran to its end."""
    outputs = tmp_path_factory.mktemp("outputs")
    return command("-m", "dora", "run", *SMALL, outputs=outputs)


@pytest.fixture(scope="session")
def encoded(tmp_path_factory) -> Path:
    """The tokens that the small experiment trains on: a folder for each split."""
    place = tmp_path_factory.mktemp("encoded")
    writing = [f"cache.path={place / 'tokens'}", "cache.write=true"]
    run = command("-m", "dora", "run", *SMALL, *writing, outputs=place / "outputs")
    assert run.returncode == 0, run.output
    return place / "tokens"


@pytest.fixture(scope="session")
def minute(tmp_path_factory) -> Path:
    """A minute of noise with metadata."""
    folder = tmp_path_factory.mktemp("minute")
    noise = 0.1 * np.random.default_rng(0).standard_normal((60 * 16_000, 1))
    soundfile.write(folder / "noise.wav", noise, 16_000)
    return folder
