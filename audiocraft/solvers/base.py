"""A run is a list of epochs, an epoch a list of stages.

The base knows how a run starts, goes on, is interrupted and ends; a solver adds what its model
is, what it learns from a batch and how it is heard. History holds only what the seed decides;
durations go to the logs, so that the same seed gives the same history, digit for digit.
"""

import contextlib
import logging
import math
import sys
import typing as tp
from abc import abstractmethod

import flashy
import torch
from flashy.distrib import is_rank_zero
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import CheckpointError, ConfigError
from ..optim.ema import ModuleDictEMA
from ..utils.device import resolve_device, resolve_dtype
from ..utils.randomness import derive_seed
from .batches import data_summary, repeat_first_batch, warn_changed_data
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
)
from .experiment import log_experiment
from .loggers import Profiler, get_loggers
from .optim_step import divergence_error
from .progress import CheckpointTimer, EpochProgress, RunningMean
from .sharding import ShardedState, Sharding
from .signals import Stopped, StopSignals
from .warm_start import apply_warm_start_config

logger = logging.getLogger(__name__)

TIMING_METRICS = ("duration", "real_time_factor")  # measured, not decided by the seed
STAGES = ("valid", "evaluate", "generate")


class StandardSolver(flashy.BaseSolver):
    """Runs stages, keeps checkpoints, goes on where it stopped.

    A subclass builds `model`, `optimizer` and `dataloaders` in `build`, and says in `run_step`
    what one batch teaches.

    Args:
        cfg: Resolved configuration of the experiment (`config/solver/…`).
    """

    # What `build` makes.
    model: tp.Any
    optimizer: torch.optim.Optimizer
    ema: ModuleDictEMA | None
    dataloaders: dict[str, DataLoader]
    # Metrics shown beside the progress bar; all of them are logged at the end of a stage.
    bar_metrics: tp.ClassVar[tuple[str, ...]] = ("ce", "lr", "grad_norm")

    def __init__(self, cfg: DictConfig):
        super().__init__()
        with contextlib.suppress(OSError):
            (self.folder / "outputs").rmdir()  # flashy's, for files that we put elsewhere
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
        self.clock = CheckpointTimer(cfg.checkpoint.every_updates, cfg.checkpoint.every_minutes)
        self.signals = StopSignals()
        self.progress = EpochProgress()
        self.best_state = BestState()
        self.watchdog = Watchdog(
            cfg.deadlock.timeout if cfg.deadlock.use else None,
            self.folder / f"solver.log.{rank()}",
        )
        self.loggers = get_loggers(cfg, self.folder, self.xp.sig)
        self.config_text = OmegaConf.to_yaml(cfg)
        self.register_stateful("best_state", "progress")
        torch.manual_seed(derive_seed(cfg.seed, "init"))
        self.build()
        # Only compared with what a checkpoint says.
        self.training_data = data_summary(self.dataloaders.get("train"))
        self.register_stateful("training_data", write_only=True)
        self.profiler = Profiler(self.folder / "profile", cfg.profiler.enabled, self.device)
        self.parts = ShardedState(self.model, self.optimizer, self.ema)
        self.shards = None
        if self.sharding.active:
            self.shards = ShardedCheckpoints(self.checkpoints, self.sharding.async_save)
        else:
            self.register_stateful("model", "optimizer")

    # What a subclass says.

    @abstractmethod
    def build(self) -> None:
        """Make the model, the optimizer, their average and the data.

        Model, optimizer and average belong in checkpoints anyway; what else does is registered.
        """

    @abstractmethod
    def run_step(self, idx: int, batch: tp.Any, metrics: dict) -> dict:
        """Learn from batch number `idx`, or only measure it; return metrics to average."""

    @abstractmethod
    def generate(self) -> dict:
        """Let the model be heard."""

    @abstractmethod
    def continue_from(self, source: str) -> None:
        """Start from the weights of another model."""

    @abstractmethod
    def log_results(self) -> None:
        """Tell the user where everything is and what to try next."""

    # One run.

    def run(self) -> None:
        """Train to the last epoch, from wherever an earlier run of this experiment stopped."""
        resumed = self.restore()
        self.loggers.start(self.logged_epoch, self.cfg.execute_only)
        source = self.cfg.continue_from
        if source and resumed:
            logger.info("This experiment has its own checkpoint: continue_from is ignored.")
        elif source:
            self.continue_from(source)
        if self.cfg.execute_only:
            self.execute(self.cfg.execute_only, resumed or bool(source))
            self.loggers.close()
            return
        if self.epoch > self.cfg.optim.epochs:
            logger.info("All %d epochs are done already.", self.cfg.optim.epochs)
        with self.signals, self.watchdog:
            self.run_epochs()
        self.log_results()
        self.loggers.close()
        leave_process_group()

    def run_epochs(self) -> None:
        """Train epoch after epoch; a request to stop ends it between two updates."""
        try:
            while self.epoch <= self.cfg.optim.epochs:
                self.run_epoch()
            self.wait_for_files()
        except Stopped as stopped:
            self.save()
            self.wait_for_files()
            logger.warning("%s The same command goes on from here.", stopped)
            self.loggers.close()
            self.signals.requeue(stopped.signum, rank())
            raise

    def run_epoch(self) -> None:
        """Train, measure, listen where it is time to, save."""
        last = self.epoch == self.cfg.optim.epochs
        self.run_stage("train", self.train)
        with torch.no_grad():
            metrics = self.run_stage("valid", self.valid)
            self.keep_best(metrics)
            for stage in ("evaluate", "generate"):
                every = self.cfg[stage].every
                if every and (last or self.epoch % every == 0):
                    self.run_stage(stage, getattr(self, stage))
        self.commit()

    def execute(self, stage: str, has_weights: bool) -> None:
        """Run one stage on the weights as they are, and keep nothing but its output.

        Raises:
            ConfigError: There is no such stage.
            CheckpointError: There are no weights.
        """
        if stage not in STAGES:
            raise ConfigError(f"execute_only is {stage!r}. Choose one of: {', '.join(STAGES)}.")
        if not has_weights:
            raise CheckpointError(
                f"execute_only={stage} needs a trained model, but {self.folder} has no checkpoint. "
                "Train this experiment first or give continue_from."
            )
        with torch.no_grad():
            self.run_stage(stage, getattr(self, stage))
        if self.cfg.execute_inplace and self.history:
            self.history[-1] |= self._pending_metrics
            if is_rank_zero():
                self.xp.link.update_history(self.history)

    @property
    def logged_epoch(self) -> int:
        """The epoch under whose number results are shown."""
        in_place = self.cfg.execute_only and self.cfg.execute_inplace and self.history
        return self.epoch - 1 if in_place else self.epoch

    def commit(self, save_checkpoint: bool = True) -> None:
        """Close the epoch: history first, then everything needed to go on from here."""
        epoch = self.epoch
        self.history.append(self._pending_metrics)
        self._start_epoch()
        self.progress.restart()
        if save_checkpoint:
            self.save(epoch)
        if is_rank_zero():
            self.xp.link.update_history(self.history)

    def save(self, epoch: int | None = None) -> None:
        """Save the state; `epoch` is the one that has just ended, if one has."""
        state = self.state_dict()
        if self.shards is not None:
            name = f"shards_{self.epoch}_{self.progress.updates}"
            self.shards.save(self.parts.state_dict(), state, name, epoch)
        elif is_rank_zero():
            self.checkpoints.save(state, epoch)
        self.clock.saved()

    def wait_for_files(self) -> None:
        """Wait until checkpoints are on the disk."""
        if self.shards is not None:
            self.shards.wait()

    def save_or_stop(self, save_is_due: bool = False) -> None:
        """Between two batches: save if it is due, or stop if the run was asked to.

        Raises:
            Stopped: Whoever catches it saves, when averaged weights have been put back.
        """
        signum, due = max_over_processes(self.signals.received, save_is_due)
        if signum:
            raise Stopped(signum)
        if due:
            self.save()

    def restore(self) -> bool:
        """Go on from this experiment's own checkpoint; tell whether there was one.

        Raises:
            CheckpointError: It is of another model.
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
        if is_rank_zero():
            self.xp.link.update_history(self.history)  # it may have been lost with the power
        where = f"after epoch {self.epoch - 1}"
        if self.progress.updates:
            where = f"in epoch {self.epoch}, after {self.progress.updates} updates"
        logger.info("%s goes on %s.", self.xp.sig, where)
        return True

    def state_dict(self) -> dict[str, tp.Any]:
        """Everything a checkpoint holds but the shards; the configuration as YAML text."""
        state = super().state_dict() | {"xp.cfg": self.config_text, "xp.sig": self.xp.sig}
        if self.ema is not None:
            state["ema"] = self.ema.state_dict(with_averages=self.shards is None)
        return state

    def load_state_dict(self, state: dict[str, tp.Any]) -> None:
        """Take over a checkpoint of this run, of however many processes."""
        warn_changed_data(state.get("training_data"), self.training_data)
        whole = shard_folder(state) is None
        if not whole:
            parts = self.parts.state_dict()
            read_shards(parts, state, self.folder)
            self.parts.load_state_dict(parts)
        elif self.shards is not None:
            self.parts.load_gathered(state)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], with_averages=whole and self.shards is None)
        known = self.stateful.sources
        super().load_state_dict({key: state[key] for key in known if key in state})

    # Stages.

    @property
    def is_training(self) -> bool:
        return self.current_stage == "train"

    @property
    def autocast(self) -> torch.autocast:
        """A fresh context per step: a longer one would keep stale half-precision weights."""
        dtype = self.autocast_dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that are measured and kept: averaged ones where there is an average."""
        return self.model.state_dict()

    def keep_best(self, metrics: dict) -> None:
        """Keep the weights if the validation loss is lower than ever before."""
        if self.best_state.is_better(metrics["ce"]):
            self.best_state.update(metrics["ce"], self.weights())
            self.on_best()

    def on_best(self) -> None:
        """The weights are better than they ever were."""

    def set_training(self) -> None:
        """Put into training mode what learns."""
        self.model.train()

    def train(self) -> dict:
        """One epoch of learning, or what an interruption left of it."""
        self.set_training()
        loader = self.dataloaders["train"]
        loader.dataset.set_epoch(self.epoch)  # type: ignore
        loader.sampler.start_at(self.progress.updates)  # type: ignore
        done, total = self.progress.updates, self.progress.updates + len(loader)
        batches = repeat_first_batch(loader) if self.cfg.benchmark_no_load else loader
        for batch in self.bar("train", batches, done, total, self.progress.mean):
            self.step("train", self.progress.updates, batch, self.progress.mean)
            self.progress.updates += 1
            self.profiler.step()
            self.save_or_stop(self.clock.is_due(self.progress.updates))
        return self.progress.mean.means()

    def valid(self) -> dict:
        """The loss on held-out music."""
        self.model.eval()
        return self.run_batches("valid")

    def evaluate(self) -> dict:
        """The loss on the evaluation set."""
        self.model.eval()
        return self.run_batches("evaluate")

    def run_batches(self, split: str) -> dict:
        """The mean metrics of `run_step` over a held-out data set."""
        loader = self.dataloaders[split]
        loader.dataset.set_epoch(0)  # type: ignore
        mean = RunningMean()
        for idx, batch in enumerate(self.bar(split, loader, 0, len(loader), mean)):
            self.step(split, idx, batch, mean)
            self.save_or_stop()
        return mean.means()

    def step(self, split: str, idx: int, batch: tp.Any, mean: RunningMean) -> None:
        """Run one batch with its own dice, and take its metrics into the mean."""
        self.watchdog.feed()
        torch.manual_seed(derive_seed(self.cfg.seed, split, self.epoch, idx, rank()))
        mean.add(self.run_step(idx, batch, {}), weight=len(batch))

    def divergence_error(self, what: str) -> ConfigError:
        """The error of a run whose numbers are none any more."""
        where = f"epoch {self.epoch}, {self.current_stage}"
        return divergence_error(what, where, self.xp.sig, self.checkpoints.last.is_file())

    def bar(
        self, stage: str, items: tp.Iterable, done: int, total: int, mean: RunningMean | None = None
    ) -> tp.Iterator:
        """Go through items with a bar of rate and time left, on the first process."""
        is_log = not sys.stderr.isatty()  # of so many lines per epoch
        last_epoch = self.cfg.optim.epochs
        bar = tqdm(  # not that of `tqdm.auto`, which asks for the items twice
            items,
            desc=stage if self.cfg.execute_only else f"{stage} {self.epoch}/{last_epoch}",
            initial=done,
            total=total,
            disable=not is_rank_zero(),
            dynamic_ncols=True,
            mininterval=0 if is_log else 0.2,  # seconds between two drawings
            miniters=max(1, total // max(1, self.cfg.logging.log_updates)) if is_log else None,
            maxinterval=math.inf,
        )
        for item in bar:
            yield item
            if mean is not None:
                shown = {
                    key: value for key, value in mean.means().items() if key in self.bar_metrics
                }
                bar.set_postfix(self.formatter(shown), refresh=False)  # drawn when the bar is

    def log_metrics(
        self, stage_name: str, metrics: dict, formatter: flashy.Formatter | None = None
    ) -> None:
        """Show a stage's metrics everywhere; only what the seed decides enters the history."""
        lasting = {key: value for key, value in metrics.items() if key not in TIMING_METRICS}
        self._pending_metrics[stage_name] = lasting
        if is_rank_zero():
            shown = (formatter or self.formatter)(metrics)
            text = " · ".join(f"{key} {value}" for key, value in shown.items())
            logger.info("%s, epoch %d: %s", stage_name, self.epoch, text)
            numbers = {k: float(v) for k, v in metrics.items()}
            self.loggers.log_metrics(stage_name, numbers, self.logged_epoch)
