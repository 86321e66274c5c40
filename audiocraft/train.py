"""The door of a training run: `dora run solver=…`, `python train.py …`.

Dora turns the command line into an experiment with a signature and a folder; Hydra composes its
configuration from `config/`. What a user did wrong is told in one sentence; `HYDRA_FULL_ERROR=1`
shows the traceback.
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
from .solvers.builders import get_solver
from .solvers.distributed import enter_srun_step
from .solvers.experiment import check_output_folder, output_folder_error
from .solvers.signals import Stopped, exit_status
from .utils.deprecated_keys import deprecation_reason
from .utils.hydra_quoting import override

logger = logging.getLogger(__name__)

CONFIG = config_dir()
ABSENT = object()
LESS_MEMORY = (
    "Raise optim.accumulate (a batch in pieces), set transformer_lm.checkpointing=torch, choose a "
    "preset such as preset=24gb, adapt with lora.use=true, shard with fsdp.use=true, or lower "
    "dataset.segment_duration or dataset.batch_size. `python -m audiocraft doctor`, with the same "
    "settings, says what takes how much."
)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # on any device
FEWER_WORKERS = (
    "Often the machine ran out of memory: lower dataset.num_workers. The same command goes on from "
    "the last checkpoint."
)

QUESTIONS = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"}  # to Hydra

# Where `+` adds what a run reads: nodes whose readers refuse what means nothing, and lone keys.
ADDABLE = (
    *("conditioners.*", "attribute_dropout.*", "fuser.*", "codebooks_pattern.*", "hydra.*"),
    *("transformer_lm.*", "generate.lm.cfg_coef", "generate.lm.cfg_coef_beta"),
)


def check_override(arg: str, find_config: tp.Callable[[], DictConfig]) -> None:
    """See that an override says something that a run reads.

    Args:
        arg: Of the command line.
        find_config: Composes the configuration without overrides of single keys.

    Raises:
        ConfigError: It is none, or it names a key that is retired or unknown.
    """
    if "=" not in arg:
        raise ConfigError(f"{arg!r} is not an override. Write key=value.")
    key, _, value = arg.lstrip("+").partition("=")
    reason = deprecation_reason(key) or deprecation_reason(f"{key}={value}")
    if reason:
        raise ConfigError(f"{arg} is retired: {reason}. Leave it out.")
    if key.startswith("dora."):
        raise ConfigError(
            f"{arg} comes too late: Dora reads its settings before the command line. Set them in "
            "config/config.yaml; AUDIOCRAFT_DORA_DIR moves the folder of experiments."
        )
    is_new = arg.startswith("+") and not any(fnmatchcase(key, pattern) for pattern in ADDABLE)
    if is_new and OmegaConf.select(find_config(), key, default=ABSENT) is ABSENT:
        raise ConfigError(f"Nothing reads the setting {key}. Correct its name, or leave it out.")


class Experiment(HydraMain):
    """Dora's entry point, with mistakes on the command line told in one sentence."""

    def __init__(self, main: tp.Callable[[DictConfig], None], config_path: str):
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        super().__init__(main, "config", config_path, version_base="1.3")

    def _get_config_noinit(self, overrides: tp.Sequence[str] = ()) -> DictConfig:
        """Compose a configuration once: Dora asks up to seven times, 0.3 s each."""
        key = tuple(overrides)
        if key not in self._composed:
            self._composed[key] = super()._get_config_noinit(list(overrides))
        return copy.deepcopy(self._composed[key])

    def __call__(self) -> None:
        enter_srun_step()
        return super().__call__()

    def _is_active(self, argv: list[str]) -> bool:
        return super()._is_active(argv) and not QUESTIONS & set(argv)

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
            _tell(error)
        return xp

    def resolve(self, argv: tp.Sequence[str]) -> XP:
        """The experiment of a command line; nothing is written anywhere.

        Raises:
            ConfigError, HydraException, OmegaConfBaseException: An override is wrong.
        """
        if not any(arg.startswith("solver=") for arg in argv):
            raise ConfigError("Say which run is meant: solver=musicgen/musicgen_style_tiny.")
        for arg in argv:
            check_override(arg, lambda: self._get_base_config(list(argv))[0])
        return super().get_xp(argv)

    def init_xp(self, xp: XP) -> XP:
        try:
            return super().init_xp(xp)
        except OSError as error:
            _tell(output_folder_error(xp.folder, error))

    def get_slurm_config(self) -> SlurmConfig:
        """What Dora asks for before it schedules jobs."""
        try:
            if is_scheduling(sys.argv):
                check_slurm()
        except ConfigError as error:
            _tell(error)
        return super().get_slurm_config()


def _tell(error: Exception) -> tp.NoReturn:
    """End with the sentence of an error, or with its traceback where that is wanted."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    # Without Hydra's advice to append a key that nobody would read.
    lines = [x for x in str(error).splitlines() if "To append to your config" not in x]
    print("error:", "\n".join(lines), file=sys.stderr)
    sys.exit(1)


def _causes(error: BaseException | None) -> tp.Iterator[BaseException]:
    """An exception and those before it: a lost worker is told wherever the run happens to be."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no room; the CPU and Apple's GPU only say so in words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def set_up(cfg: DictConfig) -> None:
    """Prepare the process: threads, start method of workers, log files.

    Raises:
        ConfigError: There is no such level of logging.
    """
    levels = logging.getLevelNamesMapping()
    if str(cfg.logging.level).upper() not in levels:
        raise ConfigError(
            f"logging.level is {cfg.logging.level!r}. Choose DEBUG, INFO, WARNING or ERROR."
        )
    flashy.setup_logging(level=levels[cfg.logging.level.upper()])
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if cfg.num_threads:
        torch.set_num_threads(cfg.num_threads)
    if cfg.mp_start_method:
        multiprocessing.set_start_method(cfg.mp_start_method, force=True)


def experiment(main: tp.Callable[[DictConfig], None]) -> Experiment:
    """Make a Dora experiment of a function that takes a resolved configuration."""
    wrapped = Experiment(main, str(CONFIG))
    wrapped.dora.grid_package = grid_package(wrapped.dora.grid_package or "grids")
    try:
        wrapped.dora.dir = AudioCraftEnvironment.get_dora_dir()
    except ConfigError as error:
        _tell(error)
    return wrapped


@experiment
def main(cfg: DictConfig) -> None:
    """Run the experiment of a resolved configuration."""
    try:
        set_up(cfg)
        solver = get_solver(cfg)
        if cfg.show:
            print(OmegaConf.to_yaml(cfg))
            print(solver.model)
            return
        solver.run()
    except AudiocraftError as error:
        if logger.isEnabledFor(logging.DEBUG):
            logger.exception("The run stopped.")
        _tell(error)
    except Stopped as stopped:
        sys.exit(exit_status(stopped.signum))
    except Exception as error:
        if is_out_of_memory(error):
            logger.debug("The run stopped.", exc_info=True)
            reason = (str(error).strip() or "Out of memory").splitlines()[0].rstrip(".")
            _tell(ConfigError(f"{reason}. {LESS_MEMORY}"))
        logger.exception("The run failed; the same command goes on from the last checkpoint.")
        if any("DataLoader worker" in str(cause) for cause in _causes(error)):
            _tell(ConfigError(f"A process that reads audio died. {FEWER_WORKERS}"))
        sys.exit(1)
    except KeyboardInterrupt:
        logger.warning("Interrupted. The same command goes on from the last checkpoint.")
        sys.exit(130)


if is_dora(sys.argv):
    try:
        check_command(main, sys.argv)
    except ConfigError as error:
        _tell(error)

if __name__ == "__main__":
    main()
