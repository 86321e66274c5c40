"""Every recorded case, replayed on our modules."""

import importlib
import pkgutil

import pytest

from . import adapters
from .deviations import DEVIATIONS
from .harness import ADAPTERS, Case, kind_of, parity_folder

for module in pkgutil.iter_modules(adapters.__path__):
    importlib.import_module(f"{adapters.__name__}.{module.name}")


def recorded_calls():
    """One parameter per recorded call; a folder is one case (an exported model)."""
    if not parity_folder().is_dir():
        yield pytest.param(None, None, marks=pytest.mark.skip(f"no folder {parity_folder()}"))
        return
    paths = [p for p in parity_folder().iterdir() if p.suffix == ".json" or p.is_dir()]
    for path in sorted(paths):
        case = Case(path)
        calls = case.calls if path.is_file() else []
        for call in calls or [None]:
            name = f"{case.name}-{call['name']}" if call else case.name
            yield pytest.param(case, call, id=name)


@pytest.mark.parametrize(("case", "call"), list(recorded_calls()))
def test_ours_gives_the_recorded_numbers(case, call):
    kind = kind_of(case.name)
    assert kind, f"nobody replays {case.name}; known kinds: {sorted(ADAPTERS)}"
    for deviation in DEVIATIONS:
        if deviation.kind == kind and deviation.applies(case, call):
            deviation.check(case, call)
            return
    ADAPTERS[kind](case, call)
