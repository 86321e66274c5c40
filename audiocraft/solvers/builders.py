"""Which solver a configuration asks for."""

from omegaconf import DictConfig

from ..errors import ConfigError
from .base import StandardSolver
from .musicgen import MusicGenSolver

SOLVERS: dict[str, type[StandardSolver]] = {"musicgen": MusicGenSolver}


def get_solver(cfg: DictConfig) -> StandardSolver:
    """Build the solver that `cfg.solver` names, with its model and its data."""
    if cfg.solver not in SOLVERS:
        raise ConfigError(
            f"solver is {cfg.solver!r}, which nobody builds. "
            f"Choose one of: {', '.join(sorted(SOLVERS))}."
        )
    return SOLVERS[cfg.solver](cfg)
