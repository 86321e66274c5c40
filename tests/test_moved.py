"""Former module names import the module of today, with a warning."""

import importlib
import sys

import pytest

from audiocraft._moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_a_former_name_is_the_same_module(old):
    module = importlib.import_module(f"audiocraft.{MOVED[old]}")
    spec = module.__spec__
    sys.modules.pop(f"audiocraft.{old}", None)
    with pytest.warns(DeprecationWarning, match=MOVED[old]):
        found = importlib.import_module(f"audiocraft.{old}")
    assert found is module
    assert module.__spec__ is spec
