"""The wheel is complete: built, installed without the repository, and used from another folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDERS = ("assets", "audiocraft", "config", "dataset", "demos", "egs", "grids")
FILES = ("LICENSE", "MANIFEST.in", "NOTICE", "README.md", "pyproject.toml", "setup.py")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
TINY = "solver=musicgen/musicgen_style_tiny"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    subprocess.run([*PIP, "wheel", "-q", *options, str(source)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs a command with the installed wheel, in its own folder."""
    target = tmp_path_factory.mktemp("target")
    options = ["--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*PIP, "install", "-q", *options, str(wheel)], check=True)
    folder = tmp_path_factory.mktemp("Möbius (1), a=b #1 it's")

    def run(*command):
        variables = {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AUDIOCRAFT_")}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder, run.target = folder, target
    return run


def test_the_wheel_has_every_folder_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    sources = [
        *(f"audiocraft/{path.relative_to(ROOT)}" for path in ROOT.glob("config/**/*.yaml")),
        *(f"audiocraft/{path.relative_to(ROOT)}" for path in ROOT.glob("assets/**/*.safetensors")),
        *("audiocraft/demos/page.py", "audiocraft/grids/_explorers.py", "audiocraft/py.typed"),
        *("audiocraft/egs/example/train/data.jsonl", "audiocraft/assets/electronic.mp3"),
    ]
    assert set(sources) <= set(names)
    assert {"LICENSE", "NOTICE"} <= {name.rpartition("/")[2] for name in names}
    assert not [name for name in names if "__pycache__" in name]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "audiocraft",
        "audiocraft_style",
    }


def test_the_console_command_generates(run):
    command = [str(run.target / "bin/audiocraft"), "generate"]
    run(*command, "--text", "slow jazz", "--duration", "1", "--out", "made", "--device", "cpu")
    assert [path.suffix for path in sorted((run.folder / "made").iterdir())] == [".json", ".wav"]


def test_a_run_uses_the_example_music_and_the_current_folder(run):
    settings = ["optim.epochs=1", "optim.updates_per_epoch=1", "generate.every=null", "device=cpu"]
    few = ["dataset.batch_size=1", "dataset.num_workers=0", "evaluate.every=null"]
    run("-m", "dora", "-P", "audiocraft", "run", TINY, *settings, *few)
    (history,) = (run.folder / "outputs" / "xps").glob("*/history.json")
    assert history.is_file()


def test_grids_and_the_preflight_report_are_installed(run):
    report = run("-m", "audiocraft", "doctor", TINY, "device=cpu")
    assert "train: 80 files" in report
    grid = run("-m", "audiocraft", "grid", "musicgen.musicgen_style_tiny", "--local", "--dry-run")
    assert grid.count("PEN") == 3


def test_the_page_is_served(run):
    pytest.importorskip("gradio")
    assert "--listen" in run("-m", "audiocraft", "demo", "--help")
