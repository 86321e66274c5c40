"""Replay of the recorded calls of a folder.

A file without adapter fails, and so does a recorded output that is not compared.
"""

import importlib
import pkgutil
import typing as tp
from pathlib import Path

from . import adapters
from .deviations import deviation_of
from .harness import ADAPTERS, Call, Case, kind_of

for module in pkgutil.iter_modules(adapters.__path__):
    importlib.import_module(f"{adapters.__name__}.{module.name}")


def discover(folder: Path) -> list[Case]:
    """Return every case of a folder; other files are listed as cases that fail."""
    paths = sorted(folder.iterdir())
    described = {path.with_suffix(".safetensors") for path in paths if path.suffix == ".json"}
    return [Case(p) for p in paths if p.suffix != ".md" and p not in described]


def is_described(case: Case) -> bool:
    """Return whether a JSON file describes the case."""
    return case.description.suffix == ".json" and case.description.is_file()


def calls_of(folder: Path) -> tp.Iterator[tuple[Case, Call | None]]:
    """Yield every recorded call of a folder; a case without calls counts as one call."""
    for case in discover(folder):
        for call in (case.calls if is_described(case) else []) or [None]:
            yield case, call


def replay(case: Case, call: Call | None) -> None:
    """Compare our outputs with the recorded ones.

    Raises:
        AssertionError: They differ, or a recorded output was not compared.
    """
    kind = kind_of(case.name)
    assert kind, f"no adapter replays {case.path.name}; known kinds: {sorted(ADAPTERS)}"
    assert is_described(case), f"{case.path.name} has no JSON that describes it"
    case.forget()
    differs = deviation_of(kind, case, call)
    if differs is None:
        ADAPTERS[kind](case, call)
    else:
        differs.check(case, call)
    if call is not None:
        unread = sorted(case.outputs(call).unread)
        assert not unread, f"recorded, but not compared: {unread}"
