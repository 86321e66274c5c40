"""Fixtures: small training runs and commands, started as by a user.

They are started through the fork server: each is a separate process with modules already
imported. `refusal` composes and builds a run in the process of the test.
"""

import gc
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import flashy
import numpy as np
import pytest
import soundfile

from audiocraft import train

from ..fork_server import forked_python

ROOT = Path(__file__).parents[2]

# The tiny experiment with fewer parameters: every stage, two epochs of two updates.
SMALL = shlex.split("""
    solver=musicgen/musicgen_style_tiny optim.epochs=2 optim.updates_per_epoch=2 device=cpu
    transformer_lm.dim=32 transformer_lm.num_heads=2 transformer_lm.num_layers=1
    dataset.batch_size=2 dataset.num_workers=0 dataset.segment_duration=5
    dataset.valid.num_samples=2 dataset.evaluate.num_samples=2 dataset.generate.num_samples=1
    generate.lm.gen_duration=1 num_threads=1
""")
# Disables the slowest stages, where they are not tested.
NO_SAMPLES = ("generate.every=null", "evaluate.every=null")


def with_settings(job, *overrides: str) -> tuple[str, ...]:
    """Overrides of a run; the given ones replace those of the same key."""
    keys = {override.partition("=")[0] for override in overrides}
    return (*(o for o in job if o.partition("=")[0] not in keys), *overrides)


# One update, one validation.
QUICK = with_settings(SMALL, "optim.epochs=1", "optim.updates_per_epoch=1", *NO_SAMPLES)


@dataclass(frozen=True)
class Run:
    """Result of a command."""

    returncode: int
    output: str
    outputs: Path  # folder of the experiments

    @property
    def folder(self) -> Path:
        """The folder of the only experiment."""
        (folder,) = (self.outputs / "xps").iterdir()
        return folder

    @property
    def history(self) -> list[dict]:
        return json.loads((self.folder / "history.json").read_text())


def started(*argv: str, outputs: Path, cold: bool = False, **env: str) -> subprocess.Popen:
    own = {"AUDIOCRAFT_DORA_DIR": str(outputs), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    return subprocess.Popen(
        [sys.executable if cold else forked_python(), *argv],
        cwd=ROOT,
        env=os.environ | own | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def command(*argv: str, outputs: Path, timeout: float = 300, cold: bool = False, **env: str) -> Run:
    """Run `python ARGV` in the repository, with experiments under `outputs`.

    Args:
        argv: Arguments of Python.
        outputs: Folder of experiments.
        timeout: Seconds.
        cold: Start Python itself, not a fork.
        env: Environment variables.
    """
    with started(*argv, outputs=outputs, cold=cold, **env) as process:
        output, _ = process.communicate(timeout=timeout)
    return Run(process.returncode, output, outputs)


def run_training(*overrides: str, outputs: Path) -> Run:
    """Run an experiment to its end."""
    run = command("-m", "dora", "run", *overrides, outputs=outputs)
    assert run.returncode == 0, run.output
    return run


def assert_resumed(run: Run) -> None:
    """Assert that a run resumed from its checkpoint."""
    assert run.returncode == 0, run.output
    assert "resumes" in run.output, run.output


def interrupted(*argv: str, outputs: Path, timeout: float = 300, cold: bool = False) -> Run:
    """Run `python ARGV` and send SIGINT after the first checkpoint."""
    until = time.monotonic() + timeout
    with started(*argv, outputs=outputs, cold=cold) as process:
        while not list(outputs.glob("xps/*/history.json")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=timeout)
    return Run(process.returncode, output, outputs)


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """A function that returns the error message of a run with wrong settings.

    The run is composed and started in this process; experiments are below `tmp_path`.
    """
    monkeypatch.setattr(train.main.dora, "dir", tmp_path)
    # Changes of global state.
    monkeypatch.setattr(flashy, "setup_logging", lambda **kwargs: None)
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda *args, **kwargs: None)

    def refuse(*overrides: str) -> str:
        def run() -> None:
            xp = train.main.get_xp(overrides)
            xp.folder.mkdir(parents=True)
            with xp.enter():
                train.main.main(xp.cfg)

        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 1
        assert not list(tmp_path.glob("xps/*/checkpoint.th"))
        message = capsys.readouterr().err
        assert "error: " in message
        return message.split("error: ")[1]

    yield refuse
    with warnings.catch_warnings():  # files that a run closes at exit
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """A small experiment that ran to its end."""
    return run_training(*SMALL, outputs=tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="session")
def encoded(tmp_path_factory) -> Path:
    """Tokens for training the small experiment: one folder per split."""
    place = tmp_path_factory.mktemp("encoded")
    writing = (f"cache.path={place / 'tokens'}", "cache.write=true")
    run_training(*with_settings(SMALL, "optim.epochs=1"), *writing, outputs=place / "outputs")
    return place / "tokens"


@pytest.fixture(scope="session")
def minute(tmp_path_factory) -> Path:
    """A minute of noise with metadata."""
    folder = tmp_path_factory.mktemp("minute")
    noise = 0.1 * np.random.default_rng(0).standard_normal((60 * 16_000, 1))
    soundfile.write(folder / "noise.wav", noise, 16_000)
    return folder
