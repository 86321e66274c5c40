"""Loggers of metrics and samples: CSV, JSON lines, TensorBoard, Weights & Biases; and the profiler.

All back ends share one interface, and only the first process logs. A back end that fails is
disabled with one warning, since logging must not end a run.

A run that was interrupted computes its last epoch again. `start` names that epoch, and each back
end discards what it has of it, so that nothing is logged twice.
"""

import csv
import io
import json
import logging
import math
import typing as tp
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from flashy.distrib import is_rank_zero
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, schedule
from torch.utils.tensorboard.writer import SummaryWriter

from ..errors import ConfigError
from ..utils.atomic_write import write_text

logger = logging.getLogger(__name__)

STAGE_ORDER = ("train", "valid", "evaluate", "generate")  # within an epoch
WANDB_MODES = ("online", "offline", "disabled")


class Logger:
    """Interface of a back end. `step` is the epoch, counted from 1."""

    def start(self, step: int, stage: str | None = None) -> None:
        """Open the back end and discard what will be logged again.

        Args:
            step: First epoch that will be logged.
            stage: The only stage that will be logged; `None` is all of them.
        """

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        """Log the metrics of a stage."""

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        """Log a waveform, `[C, T]`, if the back end supports audio."""

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """Log an image, `[height, width, 3]`, 0 to 255, if the back end supports images."""

    def close(self) -> None:
        """Close the back end."""


# Plain files.


class JsonLinesLogger(Logger):
    """One JSON object per line: time, epoch, stage, metrics; values that are not finite as null."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int, stage: str | None = None) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        rows = [(line, _read_json_line(line)) for line in lines]
        kept = [line for line, row in rows if row and not is_superseded(row, step, stage)]
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        numbers = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "epoch": step, "stage": stage} | numbers)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _read_json_line(line: str) -> dict[str, tp.Any] | None:
    """Epoch and stage of a line; `None` if it is incomplete because the run was killed."""
    try:
        row = json.loads(line)
        return {"epoch": int(row["epoch"]), "stage": row["stage"]}
    except (KeyError, TypeError, ValueError):
        return None


class CsvLogger(Logger):
    """Table with the columns epoch, stage, and each metric of any stage."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, tp.Any]] = []

    def start(self, step: int, stage: str | None = None) -> None:
        self.rows = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            try:
                self.rows = [row for row in rows if not is_superseded(row, step, stage)]
            except (KeyError, TypeError, ValueError):
                raise ConfigError(
                    f"{self.path} was not written by this logger. Move it away to start a new one."
                ) from None
        self._write()

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        self.rows.append({"epoch": step, "stage": stage} | metrics)
        self._write()

    def _write(self) -> None:
        """Write the whole table, since a new metric adds a column to all rows."""
        columns = dict.fromkeys(["epoch", "stage", *(name for row in self.rows for name in row)])
        table = io.StringIO()
        writer = csv.DictWriter(table, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, table.getvalue())


def is_superseded(row: tp.Mapping[str, tp.Any], step: int, stage: str | None) -> bool:
    """Whether a run that starts at `step` will log a row again; arguments as of `Logger.start`."""
    return int(row["epoch"]) >= step and stage in (None, row["stage"])


# Services.


class TensorBoardLogger(Logger):
    """TensorBoard event files in `folder`."""

    def __init__(self, folder: Path, *, with_media: bool):
        self.folder = folder
        self.with_media = with_media

    def start(self, step: int, stage: str | None = None) -> None:
        purge_step = step if stage is None else None  # it would purge all stages
        self.writer = SummaryWriter(str(self.folder), purge_step=purge_step)

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"{stage}/{name}", value, step)
        self.writer.flush()

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        if self.with_media:
            self.writer.add_audio(key, wav.mean(dim=0, keepdim=True), step, sample_rate)

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        if self.with_media:
            self.writer.add_image(key, image, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandbLogger(Logger):
    """Weights & Biases.

    A step of wandb is one stage of one epoch. wandb accepts no step twice, so a resumed run does
    not send again what it has sent before.

    Args:
        folder: Folder of wandb's files.
        run_id: Identifies the run; a resumed run continues the same curves.
        config: Resolved configuration, shown with the curves.
        with_media: Also send audio and images.
        mode: online | offline (files in `folder`, for `wandb sync`) | disabled; `None` is the
            value of `WANDB_MODE`, or online.
        project, name, group: Arguments of `wandb.init`; `None` is its default.
        finish_timeout: Seconds that `close` waits for the upload; the files stay in `folder`.

    Raises:
        ConfigError: wandb is not installed, or the mode is unknown.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run_id: str,
        config: dict[str, tp.Any],
        with_media: bool,
        mode: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        finish_timeout: float = 60.0,
    ):
        try:
            import wandb  # noqa: PLC0415, takes a second
        except ImportError as error:
            raise ConfigError("logging.log_wandb=true needs wandb: pip install wandb.") from error
        if mode is not None and mode not in WANDB_MODES:
            raise ConfigError(
                f"wandb.mode={mode!r} is not supported. Supported: null, {', '.join(WANDB_MODES)}."
            )
        self.wandb: tp.Any = wandb
        self.with_media = with_media
        self.settings: dict[str, tp.Any] = {
            "dir": str(folder),
            "id": run_id,
            "project": project or "audiocraft",
            "name": name or run_id,
            "group": group,
            "config": config,
            "mode": mode,
            "resume": "allow",
            "settings": {"finish_timeout": finish_timeout},
        }

    def start(self, step: int, stage: str | None = None) -> None:
        self.run = self.wandb.init(**self.settings)
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")
        self.first_step = self.run.starting_step if stage is None else None

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        named = {f"{stage}/{key}": value for key, value in metrics.items()}
        self._log(named, stage, step, commit=True)

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        if self.with_media:
            audio = self.wandb.Audio(wav.cpu().numpy().T, sample_rate=sample_rate)
            self._log({key: audio}, "generate", step)

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        if self.with_media:
            self._log({key: self.wandb.Image(image)}, "generate", step)

    def _log(
        self, values: dict[str, tp.Any], stage: str, epoch: int, commit: bool | None = None
    ) -> None:
        values = values | {"epoch": epoch}
        if self.first_step is None:  # a single stage (`execute_only`): appended
            self.run.log(values, commit=commit)
            return
        index = STAGE_ORDER.index(stage) if stage in STAGE_ORDER else 0
        step = len(STAGE_ORDER) * epoch + index
        if step >= self.first_step:
            self.run.log(values, step=step, commit=commit)

    def close(self) -> None:
        self.run.finish()


# All of them.


class Loggers:
    """Calls all back ends; disables those that fail."""

    def __init__(self, loggers: tp.Iterable[Logger] = ()):
        self.active = list(loggers)

    def start(self, step: int, stage: str | None = None) -> None:
        """Open the back ends; arguments as of `Logger.start`."""
        self._each("start", step, stage)

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        self._each("log_metrics", stage, metrics, step)

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        self._each("log_audio", key, wav, sample_rate, step)

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        self._each("log_image", key, image, step)

    def close(self) -> None:
        self._each("close")

    def _each(self, method: str, *args: tp.Any) -> None:
        for back_end in list(self.active):
            try:
                getattr(back_end, method)(*args)
            except Exception as error:
                self.active.remove(back_end)
                logger.warning("%s is disabled: %s", type(back_end).__name__, error)


def get_loggers(cfg: DictConfig, folder: Path, sig: str) -> Loggers:
    """Build the back ends of `logging.log_*`; none in processes other than the first."""
    if not is_rank_zero():
        return Loggers()
    loggers: list[Logger] = []
    if cfg.logging.log_csv:
        loggers.append(CsvLogger(folder / "metrics.csv"))
    if cfg.logging.log_jsonl:
        loggers.append(JsonLinesLogger(folder / "metrics.jsonl"))
    if cfg.logging.log_tensorboard:
        place = folder / (cfg.tensorboard.sub_dir or "tensorboard") / (cfg.tensorboard.name or "")
        loggers.append(TensorBoardLogger(place, with_media=cfg.tensorboard.with_media_logging))
    if cfg.logging.log_wandb:
        config: tp.Any = OmegaConf.to_container(cfg, resolve=True)
        options = dict(cfg.wandb)
        with_media = options.pop("with_media_logging")
        loggers.append(
            WandbLogger(folder, run_id=sig, config=config, with_media=with_media, **options)
        )
    return Loggers(loggers)


SKIPPED, WARMUP, RECORDED = 2, 2, 4  # updates


class Profiler:
    """Records the first updates of a run: a trace, and a table of the most expensive operations.

    Args:
        folder: Folder of `trace.json` and `operations.txt`.
        enabled: Whether to record.
        device: Device whose kernels are recorded beside those of the CPU.
    """

    def __init__(self, folder: Path, enabled: bool, device: torch.device):
        self.folder = folder
        self.running: profile | None = None
        if enabled:
            activities = [ProfilerActivity.CPU]
            if device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self.running = profile(
                activities=activities,
                schedule=schedule(wait=SKIPPED, warmup=WARMUP, active=RECORDED, repeat=1),
                on_trace_ready=self._write,
            )
            self.running.start()

    def step(self) -> None:
        """Count an update."""
        if self.running is not None:
            self.running.step()

    def _write(self, done: tp.Any) -> None:
        self.running = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            done.export_chrome_trace(str(self.folder / "trace.json"))
            table = done.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
            write_text(self.folder / "operations.txt", table)
        except Exception as error:
            logger.warning("The profile cannot be written: %s", error)
            return
        logger.info("Profile of %d updates: %s", RECORDED, self.folder)
