"""Training entry point: `dora run solver=…`, `python train.py …`, `python -m audiocraft.train …`.

Dora maps the command line to an experiment with a signature and a folder; Hydra composes its
configuration from `config/`. User errors end with one sentence; `HYDRA_FULL_ERROR=1` shows the
traceback.
"""

import copy
import logging
import multiprocessing
import os
import sys
import typing as tp
from fnmatch import fnmatchcase

import flashy
import hydra
import torch
from dora.conf import SlurmConfig
from dora.distrib import get_distrib_spec
from dora.hydra import HydraMain
from dora.xp import XP, get_xp, is_xp
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .environment import AudioCraftEnvironment, config_dir, grid_package
from .errors import AudiocraftError, ConfigError
from .launch.cluster import check_slurm, is_scheduling
from .launch.dora_command import check_command, is_dora
from .launch.grid_file import check_no_sweep
from .solvers.builders import get_solver
from .solvers.distributed import enter_srun_step
from .solvers.experiment import check_output_folder, output_folder_error
from .solvers.signals import Stopped, exit_status
from .solvers.token_caching import write_token_cache
from .solvers.validation import check_settings
from .utils.deprecated_keys import deprecation_reason
from .utils.hydra_quoting import override

logger = logging.getLogger(__name__)

CONFIG = config_dir()
ABSENT = object()
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # on any device
MEMORY_HINT = (
    "Raise optim.accumulate (micro-batches), set transformer_lm.checkpointing=torch, choose a "
    "preset such as preset=24gb, train adapters with lora.use=true, shard with fsdp.use=true, or "
    "lower dataset.segment_duration or dataset.batch_size. `python -m audiocraft doctor` with the "
    "same settings estimates the memory of each part."
)
RESUME_HINT = "The same command resumes from the last checkpoint."
WORKER_HINT = (
    "A data loading process died, often for lack of memory: lower dataset.num_workers. "
    + RESUME_HINT
)

HYDRA_FLAGS = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"}

# Keys that `+` may add: nodes whose builders reject unknown keys, and optional single keys.
ADDABLE_KEYS = (
    *("conditioners.*", "attribute_dropout.*", "fuser.*", "codebooks_pattern.*", "hydra.*"),
    *("transformer_lm.*", "generate.lm.cfg_coef", "generate.lm.cfg_coef_beta"),
)


def check_override(arg: str, compose: tp.Callable[[], DictConfig]) -> None:
    """Check that an override of the command line sets a key that a run reads.

    Args:
        arg: Override, `key=value`.
        compose: Composes the configuration without overrides of single keys.

    Raises:
        ConfigError: It is not an override, or its key is deprecated or unknown.
    """
    if "=" not in arg:
        raise ConfigError(f"{arg!r} is not an override. Write key=value.")
    key, _, value = arg.lstrip("+").partition("=")
    reason = deprecation_reason(key) or deprecation_reason(f"{key}={value}")
    if reason:
        raise ConfigError(f"{arg} is no longer supported: {reason}. Remove it.")
    if key.startswith("dora."):
        raise ConfigError(
            f"{arg} has no effect: Dora reads its settings before the command line. Set them in "
            "config/config.yaml; the folder of experiments is set by AUDIOCRAFT_DORA_DIR."
        )
    is_new = arg.startswith("+") and not any(fnmatchcase(key, pattern) for pattern in ADDABLE_KEYS)
    if is_new and OmegaConf.select(compose(), key, default=ABSENT) is ABSENT:
        raise ConfigError(f"The setting {key} does not exist. Correct its name, or remove it.")


class Experiment(HydraMain):
    """Dora's entry point, which reports errors of the command line in one sentence."""

    def __init__(self, main: tp.Callable[[DictConfig], None], config_path: str):
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        super().__init__(main, "config", config_path, version_base="1.3")

    def _get_config_noinit(self, overrides: tp.Sequence[str] = ()) -> DictConfig:
        """Compose a configuration once: Dora composes up to seven times, 0.3 s each."""
        key = tuple(overrides)
        if key not in self._composed:
            self._composed[key] = super()._get_config_noinit(list(overrides))
        return copy.deepcopy(self._composed[key])

    def __call__(self) -> None:
        enter_srun_step()
        return super().__call__()

    def _is_active(self, argv: list[str]) -> bool:
        return not HYDRA_FLAGS & set(argv)

    def _main(self) -> tp.Any:
        """Run Hydra in the folder of the experiment, as Dora does, but with its path quoted."""
        if not is_xp():
            return super()._main()
        argv = [override("hydra.run.dir", str(get_xp().folder))]
        if get_distrib_spec().rank > 0:
            argv.append("hydra.output_subdir=null")
        sys.argv += argv
        try:
            return hydra.main(
                config_name=self.config_name, config_path=self.config_path, **self.hydra_kwargs
            )(self.main)()
        finally:
            sys.argv = [arg for arg in sys.argv if arg not in argv]

    def value_to_argv(self, arg: tp.Any) -> list[str]:
        """Convert the settings of a grid to overrides; Dora does not quote for Hydra."""
        if not isinstance(arg, dict):
            return super().value_to_argv(arg)
        return [override(key, value) for key, value in arg.items()]

    def get_xp(self, argv: tp.Sequence[str]) -> XP:
        try:
            xp = self.resolve(argv)
            check_output_folder(self.dora.dir)
        except (HydraException, OmegaConfBaseException, AudiocraftError) as error:
            exit_with_error(error)
        return xp

    def resolve(self, argv: tp.Sequence[str]) -> XP:
        """Compose the experiment of a command line, without writing anything.

        Raises:
            ConfigError, HydraException, OmegaConfBaseException: An override is invalid.
        """
        if not any(arg.startswith("solver=") for arg in argv):
            raise ConfigError(
                "No solver is chosen. Add one, such as solver=musicgen/musicgen_style_tiny."
            )
        check_no_sweep(argv)
        for arg in argv:
            check_override(arg, lambda: self._get_base_config(list(argv))[0])
        return super().get_xp(argv)

    def init_xp(self, xp: XP) -> XP:
        try:
            return super().init_xp(xp)
        except OSError as error:
            exit_with_error(output_folder_error(xp.folder, error))

    def get_slurm_config(self) -> SlurmConfig:
        """Called by Dora before it schedules jobs."""
        try:
            if is_scheduling(sys.argv):
                check_slurm()
        except ConfigError as error:
            exit_with_error(error)
        return super().get_slurm_config()


def exit_with_error(error: Exception) -> tp.NoReturn:
    """Print the message of an error and exit; with HYDRA_FULL_ERROR=1 raise it instead."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    # Hydra advises to append unknown keys, which no code would read.
    lines = [x for x in str(error).splitlines() if "To append to your config" not in x]
    print("error:", "\n".join(lines), file=sys.stderr)
    sys.exit(1)


def _causes(error: BaseException | None) -> tp.Iterator[BaseException]:
    """Iterate over an exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device ran out of memory; CPU and MPS raise a `RuntimeError` with these words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def set_up_process(cfg: DictConfig) -> None:
    """Configure logging, threads and the start method of worker processes.

    Raises:
        ConfigError: `logging.level` is unknown.
    """
    levels = logging.getLevelNamesMapping()
    if str(cfg.logging.level).upper() not in levels:
        raise ConfigError(
            f"logging.level={cfg.logging.level!r} is not supported. Supported: DEBUG, INFO, "
            "WARNING, ERROR."
        )
    flashy.setup_logging(level=levels[cfg.logging.level.upper()])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if cfg.num_threads:
        torch.set_num_threads(cfg.num_threads)
    if cfg.mp_start_method:
        multiprocessing.set_start_method(cfg.mp_start_method, force=True)


def experiment(main: tp.Callable[[DictConfig], None]) -> Experiment:
    """Decorator: make a Dora experiment of a function that takes a resolved configuration."""
    wrapped = Experiment(main, str(CONFIG))
    wrapped.dora.grid_package = grid_package(wrapped.dora.grid_package or "grids")
    try:
        wrapped.dora.dir = AudioCraftEnvironment.get_dora_dir()
    except ConfigError as error:
        exit_with_error(error)
    return wrapped


def run(cfg: DictConfig) -> None:
    """Train, or what the settings `show` and `cache.write` ask for instead."""
    set_up_process(cfg)
    if OmegaConf.select(cfg, "cache.write"):
        check_settings(cfg)
        write_token_cache(cfg)
        return
    solver = get_solver(cfg)
    if cfg.show:
        print(OmegaConf.to_yaml(cfg))
        print(solver.model)
        return
    solver.run()


@experiment
def main(cfg: DictConfig) -> None:
    """Run the experiment of a resolved configuration; errors end the process."""
    try:
        run(cfg)
    except AudiocraftError as error:
        if logger.isEnabledFor(logging.DEBUG):
            logger.exception("The run failed.")
        exit_with_error(error)
    except Stopped as stopped:
        sys.exit(exit_status(stopped.signum))
    except Exception as error:
        if is_out_of_memory(error):
            logger.debug("The run failed.", exc_info=True)
            reason = (str(error).strip() or "Out of memory").splitlines()[0].rstrip(".")
            exit_with_error(ConfigError(f"{reason}. {MEMORY_HINT}"))
        logger.exception("The run failed. %s", RESUME_HINT)
        if any("DataLoader worker" in str(cause) for cause in _causes(error)):
            exit_with_error(ConfigError(WORKER_HINT))
        sys.exit(1)
    except KeyboardInterrupt:
        logger.warning("Interrupted. %s", RESUME_HINT)
        sys.exit(130)


if is_dora(sys.argv):
    try:
        check_command(main, sys.argv)
    except ConfigError as error:
        exit_with_error(error)

if __name__ == "__main__":
    main()
