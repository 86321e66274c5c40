"""The notebook runs without errors; its players and plots have content."""

import itertools

import pytest

from .notebook import EXPECTED, FILE, code_cells, execute, load, pictures_of, players_of, shown


def test_the_file_holds_no_outputs():
    cells = code_cells(load())
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert FILE.stat().st_size < 30_000


def test_each_cell_with_audio_follows_an_explanation():
    cells = load().cells
    pairs = itertools.pairwise(cells)
    introduced = [after.id for before, after in pairs if before.cell_type == "markdown"]
    assert set(EXPECTED) <= set(introduced)


@pytest.fixture(scope="module")
def executed():
    return execute(load())


@pytest.mark.slow
def test_every_cell_shows_its_players_and_pictures(executed):
    assert shown(executed) == EXPECTED


@pytest.mark.slow
def test_no_output_is_silent_blank_or_repeated(executed):
    for name in EXPECTED:
        sounds = [wav for wav, _ in players_of(executed[name])]
        assert all(wav.std() > 0.01 for wav in sounds), name
        assert all(len(wav) / sample_rate > 2.9 for wav, sample_rate in players_of(executed[name]))
        assert len({wav.tobytes() for wav in sounds}) == len(sounds), name
        assert all(picture.std() > 0.05 for picture in pictures_of(executed[name])), name


@pytest.mark.slow
def test_nothing_is_printed_to_standard_error(executed):
    printed = [output for outputs in executed.values() for output in outputs if "text" in output]
    assert [output.name for output in printed] == ["stdout"]
