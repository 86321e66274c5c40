"""Every recorded call, replayed on our modules."""

import pytest

from .harness import configured_folders, parity_folders
from .replay import calls_of, replay


def recorded_calls():
    """One parameter per recorded call, named after its case."""
    for folder in configured_folders():
        if not folder.is_dir():
            skip = pytest.mark.skip(f"no folder {folder}")
            yield pytest.param(None, None, marks=skip, id=f"no-{folder.name}")
            continue
        for case, call in calls_of(folder):
            yield pytest.param(case, call, id=f"{case.name}-{call['name']}" if call else case.name)


CALLS = list(recorded_calls())


def test_existing_folder_contains_cases():
    for folder in parity_folders():
        assert list(calls_of(folder)), f"{folder} holds no recorded case (AUDIOCRAFT_PARITY)"


@pytest.mark.parametrize(("case", "call"), CALLS)
def test_recorded_outputs_are_reproduced(case, call):
    replay(case, call)
