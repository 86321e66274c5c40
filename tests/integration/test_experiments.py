"""Local grids, folders that cannot be written, changed configuration."""

import json
import shutil

import pytest

from .conftest import ROOT, SMALL, command
from .trial_grids import write_grids


def test_a_grid_runs_on_this_machine(tmp_path):
    """An experiment that fails does not stop the others."""
    env = write_grids(tmp_path, two=[{"transformer_lm.card": 400}, {"optim.lr": 1e-3}])
    outputs = tmp_path / "outputs"
    grid = ("-m", "audiocraft", "grid", "two", "--local")
    run = command(*grid, "--parallel", "2", outputs=outputs, **env)
    assert run.returncode == 1, run.output
    assert "FAILED: error: transformer_lm.card" in run.output
    assert "audiocraft grid two --local" in run.output
    folders = {link.name: link.resolve() for link in (outputs / "grids" / "two").iterdir()}
    assert len(folders) == 2
    done = [folder for folder in folders.values() if (folder / "history.json").exists()]
    (epoch,) = json.loads((done[0] / "history.json").read_text())
    assert f"{epoch['valid']['ce']:.3f}" in run.output
    assert (done[0] / "checkpoint.th").is_file()

    # Without the wrong experiment, all of the grid is complete.
    env = write_grids(tmp_path, two=[{"optim.lr": 1e-3}])
    again = command(*grid, outputs=outputs, **env)
    assert again.returncode == 0, again.output
    assert "runs as process" not in again.output


@pytest.mark.parametrize("words", ["audiocraft grid two", "dora grid two --dry_run"])
def test_a_grid_that_cannot_be_read_is_refused_with_its_line(words, tmp_path):
    env = write_grids(tmp_path, two=[])
    for text, reason in {
        "def explorer(launcher:\n": "'(' was never closed",
        "import nothing_of_that_name\n": "ModuleNotFoundError: No module named 'nothing_of",
    }.items():
        (tmp_path / "trial_grids" / "two.py").write_text(text)
        run = command("-m", *words.split(), outputs=tmp_path / "outputs", **env)
        assert run.returncode == 1
        assert run.output.startswith("error: ")
        assert f"two.py, line 1: {reason}" in run.output
        assert "Traceback" not in run.output


def test_outputs_that_are_not_a_folder_are_refused(tmp_path):
    (tmp_path / "file").touch()
    run = command("-m", "dora", "info", *SMALL, outputs=tmp_path / "file")
    assert run.returncode == 1
    assert run.output.startswith("error: ")
    assert "AUDIOCRAFT_DORA_DIR" in run.output
    assert "Traceback" not in run.output


def test_missing_slurm_commands_are_named(tmp_path):
    for words in (("grid", "musicgen.musicgen_style_tiny"), ("launch", *SMALL)):
        run = command("-m", "dora", *words, outputs=tmp_path, PATH=str(tmp_path))
        assert run.returncode == 1
        assert "sbatch, srun, scancel" in run.output
        assert "Traceback" not in run.output


def test_a_resumed_run_warns_of_changed_defaults(finished, tmp_path):
    shutil.copytree(finished.outputs, tmp_path / "outputs")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config" / "solver" / "musicgen" / "default.yaml"
    text = file.read_text()
    assert "max_norm: 1.0\n" in text
    file.write_text(text.replace("max_norm: 1.0\n", "max_norm: 0.5\n"))
    config = {"AUDIOCRAFT_CONFIG": str(tmp_path / "config")}
    run = command("-m", "dora", "run", *SMALL, outputs=tmp_path / "outputs", **config)
    assert run.returncode == 0, run.output
    assert "optim.max_norm: 1.0, now 0.5" in run.output
    assert f"Experiment {finished.folder.name} in {tmp_path / 'outputs'}" in run.output
    assert "not part of the signature: device=cpu dataset.num_workers=0 num_threads=1" in run.output


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    run = command("-m", "dora", "run", *SMALL, outputs=tmp_path / "file" / "outputs")
    assert run.returncode == 1
    assert "error: " in run.output
    assert "AUDIOCRAFT_DORA_DIR" in run.output
    assert "Traceback" not in run.output
