"""Models on disk, as for the tests of `models`."""

from tests.models.conftest import checkpoint, exported, offline

__all__ = ["checkpoint", "exported", "offline"]
