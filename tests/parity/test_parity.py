"""Every recorded call, replayed on our modules."""

import pytest

from .harness import parity_folder
from .replay import calls_of, replay


def recorded_calls():
    """One parameter per recorded call, named after its case."""
    folder = parity_folder()
    if not folder.is_dir():
        yield pytest.param(None, None, marks=pytest.mark.skip(f"no folder {folder}"))
        return
    for case, call in calls_of(folder):
        yield pytest.param(case, call, id=f"{case.name}-{call['name']}" if call else case.name)


CALLS = list(recorded_calls())


def test_a_folder_that_is_there_holds_cases():
    assert CALLS, f"{parity_folder()} holds no recorded case; AUDIOCRAFT_PARITY names the folder"


@pytest.mark.parametrize(("case", "call"), CALLS)
def test_ours_gives_the_recorded_numbers(case, call):
    replay(case, call)
