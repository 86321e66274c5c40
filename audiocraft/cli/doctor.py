"""`audiocraft doctor OVERRIDES`: report what a training run will do, before it starts."""

import shlex
import typing as tp

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..doctor.report import RunPlan, Section, build_report
from ..errors import ConfigError
from ..solvers.builders import solver_class
from ..solvers.checkpoint import Checkpoints
from ..solvers.musicgen import MusicGenSolver
from ..solvers.warm_start import apply_warm_start_config
from ..utils.device import resolve_device
from .experiment import get_experiment
from .parser import CommandParser


def get_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser(
        "doctor",
        "Report what a training run will do, and what would end it or make it useless. Nothing is "
        "trained, written or downloaded. The exit status is 1 if there is a problem.",
    )
    parser.add_argument("overrides", nargs="*", help="as for `dora run`, such as solver=…")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes of the run; one per GPU"
    )
    return parser


def main(argv: tp.Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    args = get_parser().parse_intermixed_args(argv)
    if args.processes < 1:
        raise ConfigError(f"--processes is {args.processes}. Give at least 1.")
    plan = get_run_plan(get_experiment(), args.overrides, args.processes)
    problems = []
    for section in build_report(plan):
        print("\n".join(format_section(section)), flush=True)
        problems += section.problems
    if not problems:
        print(f"No problem found. To start: dora run {shlex.join(args.overrides)}")
        return 0
    print("Problems:" if len(problems) > 1 else "Problem:")
    print("\n".join(f"- {problem}" for problem in problems))
    return 1


def get_run_plan(experiment: tp.Any, overrides: tp.Sequence[str], processes: int = 1) -> RunPlan:
    """Compose the run of a command line.

    Args:
        experiment: Entry point of experiments.
        overrides: Settings of the command line.
        processes: Number of processes of the run.

    Raises:
        ConfigError: The command line cannot be composed, or the device is not available.
    """
    try:
        xp = experiment.resolve(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    if solver_class(xp.cfg) is not MusicGenSolver:
        raise ConfigError(
            f"solver={xp.cfg.solver} is not supported by the doctor, which checks runs of language "
            "models. Choose one, such as solver=musicgen/musicgen_style_tiny."
        )
    cfg = apply_warm_start_config(xp.cfg, xp.folder)
    return RunPlan(xp, cfg, Checkpoints(xp.folder), resolve_device(cfg.device), processes)


def format_section(section: Section) -> list[str]:
    """The lines that are printed for a section."""
    marked = [f"  ! {problem}" for problem in section.problems]
    return [section.title, *(f"  {line}" for line in section.lines), *marked, ""]
