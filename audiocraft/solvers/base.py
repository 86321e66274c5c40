"""Base class of solvers: epochs made of stages, checkpoints, resuming, and orderly interruption.

A subclass builds its model and data and computes one step. The history contains only values that
the seed determines, so that the same seed gives the same history; durations go to the logs.
"""

import contextlib
import logging
import typing as tp
from abc import abstractmethod
from collections import deque

import flashy
import torch
from flashy.distrib import is_rank_zero
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from ..errors import AudioError, CheckpointError, ConfigError
from ..optim.ema import ModuleDictEMA
from ..utils.atomic_write import TEMPORARY_FILES
from ..utils.device import resolve_device, resolve_dtype
from ..utils.randomness import derive_seed
from .checkpoint import (
    BestState,
    Checkpoints,
    ShardedCheckpoints,
    read_shards,
    read_state,
    shard_folder,
    verify_with_shards,
)
from .distributed import (
    Watchdog,
    broadcast_from_first,
    init_process_group,
    leave_process_group,
    max_over_processes,
    rank,
    sum_over_processes,
)
from .experiment import log_experiment
from .loggers import Profiler, get_loggers
from .optim_step import divergence_error
from .progress import CheckpointTimer, DeferredMetrics, EpochProgress, RunningMean, progress_bar
from .run_lock import RunLock
from .sharding import ShardedState, Sharding
from .signals import Stopped, StopSignals
from .training_data import data_summary, repeat_first_batch, warn_changed_data
from .warm_start import apply_warm_start_config

logger = logging.getLogger(__name__)

TIMING_METRICS = ("duration", "real_time_factor")  # not determined by the seed
EXECUTABLE_STAGES = ("valid", "evaluate", "generate")


class StandardSolver(flashy.BaseSolver):
    """Runs the stages of each epoch, writes checkpoints, resumes from them.

    A subclass sets `model`, `optimizer`, `ema` and `dataloaders` in `build` and computes one batch
    in `run_step`.

    Args:
        cfg: Resolved configuration of the experiment (`config/solver/…`).
    """

    # Set by `build`.
    model: tp.Any
    optimizer: torch.optim.Optimizer
    ema: ModuleDictEMA | None
    dataloaders: dict[str, DataLoader]
    # Metrics shown beside the progress bar; all are logged at the end of a stage.
    bar_metrics: tp.ClassVar[tuple[str, ...]] = ("ce", "lr", "grad_norm")

    def __init__(self, cfg: DictConfig):
        super().__init__()
        with contextlib.suppress(OSError):
            (self.folder / "outputs").rmdir()  # made by flashy, not used here
        self.lock = RunLock(self.folder, rank())
        if rank() == 0:
            for leftover in self.folder.glob(TEMPORARY_FILES):  # of a killed run
                leftover.unlink(missing_ok=True)
        cfg = self.cfg = apply_warm_start_config(cfg, self.folder)
        self.device = resolve_device(cfg.device)
        init_process_group(self.device)
        self.sharding = Sharding(**cfg.fsdp)
        if cfg.autocast and self.device.type == "mps":
            raise ConfigError("autocast=true is not supported on mps. Set autocast=false.")
        self.autocast_dtype = resolve_dtype(cfg.autocast_dtype) if cfg.autocast else None
        self.checkpoints = Checkpoints(
            self.folder,
            save_last=cfg.checkpoint.save_last,
            save_every=cfg.checkpoint.save_every,
            keep_last=cfg.checkpoint.keep_last,
            kept_states=cfg.checkpoint.keep_every_states,
        )
        if is_rank_zero():
            log_experiment(self.xp, cfg, self.checkpoints)
        self.timer = CheckpointTimer(cfg.checkpoint.every_updates, cfg.checkpoint.every_minutes)
        self.signals = StopSignals()
        self.progress = EpochProgress()
        self.best_state = BestState()
        self.unread: deque[tuple[DeferredMetrics, int, RunningMean]] = deque()
        # Steps whose metrics are read later; on the CPU they are there at once.
        self.metrics_lag = 0 if self.device.type == "cpu" else 1
        self.watchdog = Watchdog(
            cfg.deadlock.timeout if cfg.deadlock.use else None,
            self.folder / f"solver.log.{rank()}",
        )
        self.loggers = get_loggers(cfg, self.folder, self.xp.sig)
        self.config_text = OmegaConf.to_yaml(cfg)
        self.register_stateful("best_state", "progress")
        torch.manual_seed(derive_seed(cfg.seed, "init"))
        self.build()
        self.training_data = data_summary(self.dataloaders.get("train"))
        self.register_stateful("training_data", write_only=True)  # only compared when resuming
        self.profiler = Profiler(self.folder / "profile", cfg.profiler.enabled, self.device)
        self.sharded_state = ShardedState(self.model, self.optimizer, self.ema)
        self.shards = None
        if self.sharding.active:
            self.shards = ShardedCheckpoints(self.checkpoints, self.sharding.async_save)
        else:
            self.register_stateful("model", "optimizer")

    # Implemented by subclasses.

    @abstractmethod
    def build(self) -> None:
        """Build model, optimizer, EMA and data loaders.

        Checkpoints contain model, optimizer and EMA; register other state as stateful.
        """

    @abstractmethod
    def run_step(self, idx: int, batch: tp.Any, metrics: dict) -> dict:
        """Process batch `idx`, updating the weights if `is_training`.

        Returns:
            Metrics to average: floats, or scalar tensors that are read after the next step.
        """

    def finish_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """Check the metrics of a step once they are read, and add those that follow from them."""
        return metrics

    def generate_samples(self) -> dict[str, float]:
        """Generate this process's share of the samples; returns metrics that are summed."""
        return {}

    @abstractmethod
    def continue_from(self, source: str) -> None:
        """Warm start from the weights of another model."""

    @abstractmethod
    def log_results(self) -> None:
        """Log where the results of a finished run are."""

    # The run.

    def run(self) -> None:
        """Train to the last epoch, resuming from the experiment's own checkpoint if there is one.

        Raises:
            Stopped: A signal ended the run; its state is saved.
        """
        resumed = self.restore()
        self.loggers.start(self.logged_epoch, self.cfg.execute_only)
        source = self.cfg.continue_from
        if source and resumed:
            logger.info("continue_from is ignored: the experiment has its own checkpoint.")
        elif source:
            self.continue_from(source)
        if self.cfg.execute_only:
            self.execute(self.cfg.execute_only, resumed or bool(source))
        else:
            if self.epoch > self.cfg.optim.epochs:
                logger.info("All %d epochs are done (optim.epochs).", self.cfg.optim.epochs)
            with self.signals, self.watchdog:
                self.run_epochs()
            self.log_results()
        self.loggers.close()
        self.lock.release()
        leave_process_group()

    def run_epochs(self) -> None:
        """Train all remaining epochs; a signal saves and ends the run between two updates."""
        try:
            while self.epoch <= self.cfg.optim.epochs:
                self.run_epoch()
            self.wait_for_checkpoints()
        except Stopped as stopped:
            self.save()
            self.wait_for_checkpoints()
            logger.warning("%s The same command resumes it.", stopped)
            self.loggers.close()
            self.signals.requeue(stopped.signum, rank())
            raise

    def run_epoch(self) -> None:
        """Train, validate, keep the best weights, evaluate and generate if due, save."""
        is_last = self.epoch == self.cfg.optim.epochs
        self.run_stage("train", self.train)
        with torch.no_grad():
            metrics = self.run_stage("valid", self.valid)
            self.keep_best(metrics)
            for stage in ("evaluate", "generate"):
                every = self.cfg[stage].every
                if every and (is_last or self.epoch % every == 0):
                    self.run_stage(stage, getattr(self, stage))
        self.commit()

    def execute(self, stage: str, has_weights: bool) -> None:
        """Run a single stage without training or saving (`execute_only`).

        Raises:
            ConfigError: The stage is unknown.
            CheckpointError: There are no trained weights.
        """
        if stage not in EXECUTABLE_STAGES:
            raise ConfigError(
                f"execute_only={stage!r} is not supported. Supported: "
                f"{', '.join(EXECUTABLE_STAGES)}."
            )
        if not has_weights:
            raise CheckpointError(
                f"execute_only={stage} needs a trained model, but {self.folder} has no checkpoint. "
                "Train this experiment first or set continue_from."
            )
        with torch.no_grad():
            self.run_stage(stage, getattr(self, stage))
        if self.cfg.execute_inplace and self.history:
            self.history[-1] |= self._pending_metrics
            self.write_history()

    @property
    def logged_epoch(self) -> int:
        """Epoch number under which results are logged."""
        in_place = self.cfg.execute_only and self.cfg.execute_inplace and self.history
        return self.epoch - 1 if in_place else self.epoch

    # Saving and resuming.

    def commit(self, save_checkpoint: bool = True) -> None:
        """Append the epoch's metrics to the history and save."""
        epoch = self.epoch
        self.history.append(self._pending_metrics)
        self._start_epoch()
        self.progress.restart()
        if save_checkpoint:
            self.save(epoch)
        self.write_history()

    def write_history(self) -> None:
        """Write `history.json`; every checkpoint contains the history, too."""
        if is_rank_zero():
            try:
                self.xp.link.update_history(self.history)
            except OSError as error:
                logger.warning("The history could not be written: %s", error)

    def save(self, epoch: int | None = None) -> None:
        """Save a checkpoint; `epoch` is the epoch that has just ended, `None` within one.

        Raises:
            ConfigError: The latest step was not finite; nothing is saved.
            CheckpointError: The checkpoint cannot be written.
        """
        self.read_metrics()
        state = self.state_dict()
        if self.shards is not None:
            name = f"shards_{self.epoch}_{self.progress.updates}"
            self.shards.save(self.sharded_state.state_dict(), state, name, epoch)
        elif is_rank_zero():
            self.checkpoints.save(state, epoch)
        self.timer.restart()

    def wait_for_checkpoints(self) -> None:
        """Wait until checkpoints that are saved in the background are on the disk."""
        if self.shards is not None:
            self.shards.wait()

    def save_or_stop(self, save_is_due: bool = False) -> None:
        """Between two batches: save if due, stop if any process received a signal.

        Raises:
            Stopped: To be caught where the weights are not replaced by their average; then saved.
        """
        signum, due = max_over_processes(self.signals.received, save_is_due)
        if signum:
            raise Stopped(signum)
        if due:
            self.save()

    def restore(self) -> bool:
        """Resume from the experiment's own checkpoint; returns whether there is one.

        Raises:
            CheckpointError: It does not fit the model, or no checkpoint is intact.
        """
        path = broadcast_from_first(lambda: self.checkpoints.newest(verify_with_shards))
        if path is None:
            return False
        try:
            self.load_state_dict(read_state(path))
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} does not fit the model of this experiment: {str(error)[:500]} If a file "
                "in config/ has changed since, change it back, or start again with "
                "`dora run --clear`."
            ) from error
        self.write_history()  # it is written after the checkpoint and may be older
        where = f"after epoch {self.epoch - 1}"
        if self.progress.updates:
            where = f"in epoch {self.epoch}, after {self.progress.updates} updates"
        logger.info("%s resumes %s.", self.xp.sig, where)
        return True

    def state_dict(self) -> dict[str, tp.Any]:
        """Content of a checkpoint except its shards; the configuration as YAML text."""
        state = super().state_dict() | {"xp.cfg": self.config_text, "xp.sig": self.xp.sig}
        if self.ema is not None:
            state["ema"] = self.ema.state_dict(with_averages=self.shards is None)
        return state

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Load a checkpoint of this experiment, written by any number of processes."""
        warn_changed_data(state.get("training_data"), self.training_data)
        is_whole = shard_folder(state) is None
        if not is_whole:
            shards = self.sharded_state.state_dict()
            read_shards(shards, state, self.folder)
            self.sharded_state.load_state_dict(shards)
        elif self.shards is not None:
            self.sharded_state.load_gathered(state)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], with_averages=is_whole and self.shards is None)
        known = self.stateful.sources
        super().load_state_dict({key: state[key] for key in known if key in state})

    # Stages.

    @property
    def is_training(self) -> bool:
        return self.current_stage == "train"

    @property
    def autocast(self) -> torch.autocast:
        """A new context per step: a longer one would keep outdated half-precision weights."""
        dtype = self.autocast_dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def weights(self) -> dict[str, torch.Tensor]:
        """Weights that are validated and kept as the best: the EMA if there is one."""
        return self.model.state_dict()

    def keep_best(self, metrics: dict) -> None:
        """Keep the weights if the validation loss is lower than ever before."""
        if self.best_state.is_better(metrics["ce"]):
            self.best_state.update(metrics["ce"], self.weights())
            self.on_best()

    def on_best(self) -> None:
        """Called when validation improves."""

    def set_training(self) -> None:
        """Put the trained modules into training mode."""
        self.model.train()

    def train(self) -> dict:
        """Train for an epoch, or for the rest of one that was interrupted."""
        self.set_training()
        loader, progress = self.dataloaders["train"], self.progress
        loader.dataset.set_epoch(self.epoch)  # type: ignore
        loader.sampler.start_at(progress.updates)  # type: ignore
        total = progress.updates + len(loader)
        batches = repeat_first_batch(loader) if self.cfg.benchmark_no_load else loader
        for batch in self.progress_bar("train", batches, progress.updates, total, progress.mean):
            self.step("train", progress.updates, batch, progress.mean)
            progress.updates += 1
            self.profiler.step()
            self.save_or_stop(self.timer.is_due(progress.updates))
        self.read_metrics()
        return progress.mean.means()

    def valid(self) -> dict:
        """Compute the metrics of the validation set."""
        return self.run_batches("valid")

    def evaluate(self) -> dict:
        """Compute the metrics of the evaluation set."""
        return self.run_batches("evaluate")

    def generate(self) -> dict:
        """Generate samples, each process its share. A failure is logged and does not end the run.

        Raises:
            AudioError: They failed and are all that the run was to do (`execute_only=generate`).
        """
        try:
            metrics = self.generate_samples()
        except Stopped:
            raise
        except Exception as error:
            if self.cfg.execute_only:
                if isinstance(error, OSError | AudioError):
                    raise AudioError(f"The samples cannot be written: {error}") from error
                raise
            kind = type(error).__name__
            logger.warning(
                "The samples of epoch %d cannot be generated: %s: %s", self.epoch, kind, error
            )
            logger.debug("Traceback:", exc_info=True)
            metrics = {"samples": 0.0, "real_time_factor": 0.0}
        totals = torch.tensor(list(metrics.values()), dtype=torch.float64)
        return dict(zip(metrics, sum_over_processes(totals).tolist()))

    def run_batches(self, split: str) -> dict:
        """Average the metrics of `run_step` over a held-out data set."""
        self.model.eval()
        loader = self.dataloaders[split]
        loader.dataset.set_epoch(0)  # type: ignore
        mean = RunningMean()
        for idx, batch in enumerate(self.progress_bar(split, loader, 0, len(loader), mean)):
            self.step(split, idx, batch, mean)
            self.save_or_stop()
        self.read_metrics()
        return mean.means()

    def step(self, split: str, idx: int, batch: tp.Any, mean: RunningMean) -> None:
        """Process one batch with the random generators of its own and average its metrics."""
        self.watchdog.feed()
        torch.manual_seed(derive_seed(self.cfg.seed, split, self.epoch, idx, rank()))
        try:
            metrics = self.run_step(idx, batch, {})
        except Exception:
            self.read_metrics()  # a step before it may be the cause
            raise
        self.unread.append((DeferredMetrics(metrics), len(batch), mean))
        self.read_metrics(self.metrics_lag)

    def read_metrics(self, lag: int = 0) -> None:
        """Read the metrics of all steps but the latest `lag`, which the device may still compute.

        Raises:
            ConfigError: They are not finite.
        """
        while len(self.unread) > lag:
            metrics, weight, mean = self.unread.popleft()
            mean.add(self.finish_metrics(metrics.values()), weight)

    def divergence_error(self, what: str) -> ConfigError:
        """Build the error of a run whose loss or gradient is not finite."""
        where = ", ".join([f"epoch {self.epoch}", *filter(None, [self._current_stage])])
        return divergence_error(what, where, self.xp.sig, self.checkpoints.last.is_file())

    # Output.

    def progress_bar(
        self, stage: str, items: tp.Iterable, done: int, total: int, mean: RunningMean | None = None
    ) -> tp.Iterator:
        """Iterate over items, with a progress bar on the first process that shows `mean`."""
        label = stage if self.cfg.execute_only else f"{stage} {self.epoch}/{self.cfg.optim.epochs}"
        lines = self.cfg.logging.log_updates
        bar = progress_bar(items, label, done, total, lines, enabled=is_rank_zero())
        for item in bar:
            yield item
            if mean is not None:
                shown = {k: v for k, v in mean.means().items() if k in self.bar_metrics}
                bar.set_postfix(self.formatter(shown), refresh=False)

    def log_metrics(
        self, stage_name: str, metrics: dict, formatter: flashy.Formatter | None = None
    ) -> None:
        """Log the metrics of a stage; those determined by the seed enter the history."""
        lasting = {key: value for key, value in metrics.items() if key not in TIMING_METRICS}
        self._pending_metrics[stage_name] = lasting
        if is_rank_zero():
            shown = (formatter or self.formatter)(metrics)
            text = " · ".join(f"{key} {value}" for key, value in shown.items())
            logger.info("%s, epoch %d: %s", stage_name, self.epoch, text)
            numbers = {k: float(v) for k, v in metrics.items()}
            self.loggers.log_metrics(stage_name, numbers, self.logged_epoch)
