"""Former module names import the current module, with a warning."""

import importlib
import sys
import warnings

import pytest

from audiocraft._moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_a_former_name_imports_the_same_module(old):
    module = importlib.import_module(f"audiocraft.{MOVED[old]}")
    spec = module.__spec__
    sys.modules.pop(f"audiocraft.{old}", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = importlib.import_module(f"audiocraft.{old}")
    assert found is module
    assert any(MOVED[old] in str(warning.message) for warning in caught)
    assert module.__spec__ is spec
