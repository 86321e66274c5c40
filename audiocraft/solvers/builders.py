"""Which solver a configuration asks for."""

from omegaconf import DictConfig

from ..errors import ConfigError
from .base import StandardSolver
from .musicgen import MusicGenSolver

SOLVERS: dict[str, type[StandardSolver]] = {"musicgen": MusicGenSolver}


def get_solver(cfg: DictConfig) -> StandardSolver:
    """Build the solver that `cfg.solver` names, with its model and its data."""
    return solver_class(cfg)(cfg)


def solver_class(cfg: DictConfig) -> type[StandardSolver]:
    """The class of the solver that `cfg.solver` names.

    Raises:
        ConfigError: There is none of that name.
    """
    if cfg.solver not in SOLVERS:
        raise ConfigError(
            f"solver is {cfg.solver!r}, which nobody builds. "
            f"Choose one of: {', '.join(sorted(SOLVERS))}."
        )
    return SOLVERS[cfg.solver]
