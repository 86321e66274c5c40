"""Execution of the notebook, and its audio players and plots."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FILE = ROOT / "demos" / "musicgen_style_demo.ipynb"
# Players and plots of each cell with output.
EXPECTED = {
    "text-only": (2, 1),
    "clip": (2, 1),
    "style-only": (2, 1),
    "text-and-style": (2, 1),
    "style-detail": (6, 1),
    "text-weight": (4, 1),
}


def load():
    return nbformat.read(FILE, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook, timeout: float = 300, **env: str) -> dict[str, list]:
    """The outputs of each cell; raises where one fails.

    Args:
        timeout: Limit per cell, in seconds.
        env: Environment variables of the kernel.
    """
    own = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (own | env).items():
            patch.setenv(name, value)
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",  # of this interpreter
            resources={"metadata": {"path": str(ROOT)}},
        )
        client.execute()
    return {cell.id: cell.outputs for cell in code_cells(notebook)}


def players_of(outputs) -> list[tuple[np.ndarray, int]]:
    pages = [output.data.get("text/html", "") for output in outputs if "data" in output]
    sounds = [re.findall(r'src="data:audio/wav;base64,([^"]+)"', page) for page in pages]
    return [soundfile.read(io.BytesIO(base64.b64decode(code))) for (code,) in filter(None, sounds)]


def pictures_of(outputs) -> list[np.ndarray]:
    codes = [output.data.get("image/png") for output in outputs if "data" in output]
    return [imread(io.BytesIO(base64.b64decode(code))) for code in codes if code]


def shown(executed: dict[str, list]) -> dict[str, tuple[int, int]]:
    """Players and plots of each cell with output."""
    found = {
        name: (len(players_of(outputs)), len(pictures_of(outputs)))
        for name, outputs in executed.items()
    }
    return {name: counts for name, counts in found.items() if any(counts)}
