"""Solver builder."""

from omegaconf import DictConfig

from ..errors import ConfigError
from .base import StandardSolver
from .compression import CompressionSolver
from .musicgen import MusicGenSolver

SOLVERS: dict[str, type[StandardSolver]] = {
    "compression": CompressionSolver,
    "musicgen": MusicGenSolver,
}


def get_solver(cfg: DictConfig) -> StandardSolver:
    """Build the solver `cfg.solver` with its model and data."""
    return solver_class(cfg)(cfg)


def solver_class(cfg: DictConfig) -> type[StandardSolver]:
    """Return the class of the solver `cfg.solver`.

    Raises:
        ConfigError: There is no such solver.
    """
    if cfg.solver not in SOLVERS:
        raise ConfigError(
            f"solver={cfg.solver!r} is not supported. Supported: {', '.join(sorted(SOLVERS))}."
        )
    return SOLVERS[cfg.solver]
