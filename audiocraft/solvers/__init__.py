"""Solvers: training loops. The names are imported when they are first used."""

import typing as tp

from ..utils.lazy_import import lazy_names

if tp.TYPE_CHECKING:
    from .base import StandardSolver
    from .builders import get_solver
    from .musicgen import MusicGenSolver

__all__ = ["MusicGenSolver", "StandardSolver", "get_solver"]
__getattr__ = lazy_names(
    __name__, {"MusicGenSolver": "musicgen", "StandardSolver": "base", "get_solver": "builders"}
)
