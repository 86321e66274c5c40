"""The notebook runs from top to bottom, and what it shows can be heard and seen."""

import base64
import io
import itertools
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
# Players and pictures of each cell that shows any.
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


def test_the_file_holds_no_outputs():
    cells = code_cells(load())
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert FILE.stat().st_size < 30_000


def test_all_that_is_heard_is_introduced():
    cells = load().cells
    pairs = itertools.pairwise(cells)
    introduced = [after.id for before, after in pairs if before.cell_type == "markdown"]
    assert set(EXPECTED) <= set(introduced)


@pytest.fixture(scope="module")
def executed():
    notebook = load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",  # of this interpreter
            resources={"metadata": {"path": str(ROOT)}},
        )
        client.execute()  # raises where a cell fails
    return {cell.id: cell.outputs for cell in code_cells(notebook)}


def players_of(outputs) -> list[tuple[np.ndarray, int]]:
    pages = [output.data.get("text/html", "") for output in outputs if "data" in output]
    sounds = [re.findall(r'src="data:audio/wav;base64,([^"]+)"', page) for page in pages]
    return [soundfile.read(io.BytesIO(base64.b64decode(code))) for (code,) in filter(None, sounds)]


def pictures_of(outputs) -> list[np.ndarray]:
    codes = [output.data.get("image/png") for output in outputs if "data" in output]
    return [imread(io.BytesIO(base64.b64decode(code))) for code in codes if code]


@pytest.mark.slow
@pytest.mark.xdist_group("notebook")
def test_every_cell_shows_its_players_and_pictures(executed):
    found = {
        name: (len(players_of(outputs)), len(pictures_of(outputs)))
        for name, outputs in executed.items()
    }
    assert {name: counts for name, counts in found.items() if any(counts)} == EXPECTED


@pytest.mark.slow
@pytest.mark.xdist_group("notebook")
def test_nothing_is_silent_blank_or_told_twice(executed):
    for name in EXPECTED:
        sounds = [wav for wav, _ in players_of(executed[name])]
        assert all(wav.std() > 0.01 for wav in sounds), name
        assert all(len(wav) / sample_rate > 2.9 for wav, sample_rate in players_of(executed[name]))
        assert len({wav.tobytes() for wav in sounds}) == len(sounds), name
        assert all(picture.std() > 0.05 for picture in pictures_of(executed[name])), name


@pytest.mark.slow
@pytest.mark.xdist_group("notebook")
def test_nothing_is_printed_that_a_reader_would_worry_about(executed):
    printed = [output for outputs in executed.values() for output in outputs if "text" in output]
    assert [output.name for output in printed] == ["stdout"]
