"""Experiments as a user sees them: a grid on this machine, and defaults that change meanwhile."""

import json
import shutil

import pytest

from .conftest import ROOT, SMALL, command
from .trial_grids import write_grids

pytestmark = pytest.mark.slow


def test_a_grid_on_this_machine(tmp_path):
    """One of its experiments is wrong: the other is trained all the same."""
    env = write_grids(tmp_path, two=[{"transformer_lm.card": 400}, {"optim.lr": 1e-3}])
    outputs = tmp_path / "outputs"
    grid = ("-m", "audiocraft", "grid", "two", "--local")
    run = command(*grid, "--parallel", "2", outputs=outputs, **env)
    assert run.returncode == 1, run.output
    assert "FAILED: error: transformer_lm.card is 400 but the tokenizer" in run.output
    assert "What is not done goes on with: python -m audiocraft grid two --local" in run.output
    folders = {link.name: link.resolve() for link in (outputs / "grids" / "two").iterdir()}
    assert len(folders) == 2
    done = [folder for folder in folders.values() if (folder / "history.json").exists()]
    (epoch,) = json.loads((done[0] / "history.json").read_text())
    assert f"{epoch['valid']['ce']:.3f}" in run.output
    assert (done[0] / "checkpoint.th").is_file()

    # Mended, the grid has nothing left to do.
    env = write_grids(tmp_path, two=[{"optim.lr": 1e-3}])
    again = command(*grid, outputs=outputs, **env)
    assert again.returncode == 0, again.output
    assert "runs as process" not in again.output


@pytest.mark.parametrize("words", ["audiocraft grid two", "dora grid two --dry_run"])
def test_a_grid_that_cannot_be_read_is_told_in_a_sentence(words, tmp_path):
    env = write_grids(tmp_path, two=[])
    for text, reason in {
        "def explorer(launcher:\n": "'(' was never closed",
        "import nothing_of_that_name\n": "ModuleNotFoundError: No module named 'nothing_of",
    }.items():
        (tmp_path / "trial_grids" / "two.py").write_text(text)
        run = command("-m", *words.split(), outputs=tmp_path / "outputs", **env)
        assert run.returncode == 1
        assert run.output.startswith("error: The grid two cannot be read")
        assert f"two.py, line 1: {reason}" in run.output
        assert "Traceback" not in run.output


def test_outputs_that_are_no_folder_are_told_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    run = command("-m", "dora", "info", *SMALL, outputs=tmp_path / "file")
    assert run.returncode == 1
    assert run.output.startswith("error: Nothing can be written to")
    assert "AUDIOCRAFT_DORA_DIR" in run.output
    assert "Traceback" not in run.output


def test_slurm_that_is_not_there_is_told_in_a_sentence(tmp_path):
    for words in (("grid", "musicgen.musicgen_style_tiny"), ("launch", *SMALL)):
        run = command("-m", "dora", *words, outputs=tmp_path, PATH=str(tmp_path))
        assert run.returncode == 1
        assert "error: There is no SLURM here (sbatch, srun, scancel missing)" in run.output
        assert "Traceback" not in run.output


def test_a_default_that_changed_since_an_experiment_began_is_told(finished, tmp_path):
    shutil.copytree(finished.outputs, tmp_path / "outputs")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config" / "solver" / "musicgen" / "default.yaml"
    text = file.read_text()
    assert "max_norm: 1.0\n" in text
    file.write_text(text.replace("max_norm: 1.0\n", "max_norm: 0.5\n"))
    config = {"AUDIOCRAFT_CONFIG": str(tmp_path / "config")}
    run = command("-m", "dora", "run", *SMALL, outputs=tmp_path / "outputs", **config)
    assert run.returncode == 0, run.output
    assert "Files in config/ have changed since this experiment began" in run.output
    assert "optim.max_norm: 1.0, now 0.5" in run.output
    assert f"Experiment {finished.folder.name} in {tmp_path / 'outputs'}" in run.output
    assert "no part of it: device=cpu dataset.num_workers=0 num_threads=1" in run.output


def test_outputs_that_cannot_be_written_are_told_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    run = command("-m", "dora", "run", *SMALL, outputs=tmp_path / "file" / "outputs")
    assert run.returncode == 1
    assert "error: Nothing can be written to" in run.output
    assert "Traceback" not in run.output
