"""The lock file pins all dependencies of the package, its tests and its tools."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "requirements.lock").read_text().splitlines()
PINNED = {
    canonicalize_name(requirement.name): requirement
    for requirement in (Requirement(line) for line in LINES if not line.startswith("#"))
}


@pytest.mark.parametrize("name", PINNED)
def test_dependencies_of_pinned_packages_are_pinned(name):
    try:
        needed = [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert canonicalize_name(requirement.name) in PINNED


def test_every_line_pins_one_version():
    for requirement in PINNED.values():
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
