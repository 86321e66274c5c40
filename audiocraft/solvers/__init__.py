"""Solvers: training loops. The names are imported when they are first used."""

import typing as tp

from ..utils.lazy_exports import lazy_exports

if tp.TYPE_CHECKING:
    from .base import StandardSolver
    from .builders import get_solver
    from .compression import CompressionSolver
    from .musicgen import MusicGenSolver

__all__ = ["CompressionSolver", "MusicGenSolver", "StandardSolver", "get_solver"]
__getattr__ = lazy_exports(
    __name__,
    {
        "CompressionSolver": ".compression:CompressionSolver",
        "MusicGenSolver": ".musicgen:MusicGenSolver",
        "StandardSolver": ".base:StandardSolver",
        "get_solver": ".builders:get_solver",
    },
)
