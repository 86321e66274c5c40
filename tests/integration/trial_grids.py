"""Grids for tests: a separate package and a configuration that names it."""

import shutil
from pathlib import Path

from .conftest import QUICK, ROOT

GRID = """
from grids._explorers import LMExplorer


@LMExplorer
def explorer(launcher):
    launcher.slurm_(gpus=1)
    launcher.bind_({common!r})
    for varied in {varied!r}:
        launcher(varied)
"""


def write_grids(folder: Path, **varied: list) -> dict[str, str]:
    """Write grids of small experiments; returns the environment in which Dora finds them.

    Args:
        folder: Folder of the package.
        varied: Overrides of each experiment, by name of the grid.
    """
    package = folder / "trial_grids"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    for name, experiments in varied.items():
        text = GRID.format(common=list(QUICK), varied=experiments)
        (package / f"{name}.py").write_text(text)
    if not (folder / "config").exists():
        shutil.copytree(ROOT / "config", folder / "config")
        file = folder / "config" / "config.yaml"
        default, ours = "grid_package: grids ", "grid_package: trial_grids "
        text = file.read_text()
        assert default in text
        file.write_text(text.replace(default, ours))
    return {
        "AUDIOCRAFT_CONFIG": str(folder / "config"),
        "PYTHONPATH": f"{folder}:{ROOT}",
    }
