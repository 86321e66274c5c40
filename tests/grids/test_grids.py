"""Grids: every experiment composes."""

import os
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ..fork_server import forked_python

ROOT = Path(__file__).parents[2]
GRIDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "grids").rglob("*.py")
    if not path.name.startswith("_")
)


class Recorder:
    """Replaces Dora's launcher and records the experiments."""

    def __init__(self, overrides=None, gpus=None, launched=None):
        self.overrides = dict(overrides or {})
        self.gpus = gpus
        self.launched = [] if launched is None else launched

    def bind_(self, *nodes):
        for node in nodes:
            self.overrides |= node

    def slurm_(self, gpus=None, partition=None):
        self.gpus = gpus or self.gpus

    def slurm(self, **options):
        copy = Recorder(self.overrides, self.gpus, self.launched)
        copy.slurm_(**options)
        return copy

    def __call__(self, *nodes):
        copy = self.slurm()
        copy.bind_(*nodes)
        self.launched.append(copy)


def explore(name):
    recorder = Recorder()
    import_module(name).explorer.explore(recorder)
    return recorder.launched


def composed(overrides):
    arguments = [f"{key}={value}" for key, value in overrides.items()]
    with initialize_config_dir(str(ROOT / "config"), version_base="1.3"):
        return compose("config", arguments)


@pytest.mark.parametrize("name", GRIDS)
def test_every_experiment_of_a_grid_can_be_composed(name):
    launched = explore(name)
    assert launched
    for experiment in launched:
        cfg = composed(experiment.overrides)
        assert experiment.gpus
        assert cfg.dataset.batch_size % experiment.gpus == 0


def test_the_style_grid_is_that_of_the_released_model():
    (experiment,) = explore("grids.musicgen.musicgen_style_32khz")
    cfg = composed(experiment.overrides)
    assert experiment.gpus == 64
    assert cfg.transformer_lm.dim == 1536
    assert list(cfg.conditioners) == ["self_wav", "description"]
    assert cfg.fsdp.use
    assert not cfg.autocast
    assert (cfg.optim.optimizer, cfg.optim.lr) == ("adamw", 1e-4)
    assert (cfg.generate.every, cfg.dataset.generate.num_samples) == (25, 64)


@pytest.mark.integration
def test_dora_lists_a_grid_without_a_cluster(tmp_path):
    command = [forked_python(), "-m", "dora", "grid", "musicgen.musicgen_style_32khz"]
    result = subprocess.run(
        [*command, "--dry_run", "--init", "--no_monitoring"],
        cwd=ROOT,
        env=os.environ | {"AUDIOCRAFT_DORA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "solver=musicgen/musicgen_style_32khz" in result.stdout
    (experiment,) = (tmp_path / "xps").iterdir()
    assert experiment.name in result.stdout
