"""Fixtures: models on disk, shared with the tests of `models`."""

from tests.models.conftest import checkpoint, exported, offline

__all__ = ["checkpoint", "exported", "offline"]
