"""Where metrics and samples of a run are shown beside the console.

One small interface, one class per back end: TensorBoard and Weights & Biases here, plain files in
`file_loggers.py`. A back end that fails is named once in the log and left out from then on: no
picture is worth a training run. Only the first process logs.

A run that was interrupted measures the epoch again in which it was. `start` says which epoch that
is, and every back end forgets what it has of it, so that nothing stands anywhere twice.
"""

import csv
import io
import json
import logging
import math
import os
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


class Logger:
    """A place that shows how a run is doing. `step` counts epochs, from 1."""

    def start(self, step: int, stage: str | None = None) -> None:
        """Open; whatever is there of epoch `step` and later ones will come again.

        Args:
            step: The epoch that comes first.
            stage: Only this stage comes; `None` is all of them.
        """

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        """Show what a stage has measured."""

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        """Show a sound, `[C, T]`, where that can be done."""

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        """Show a picture, `[height, width, 3]` in 0…255, where that can be done."""

    def close(self) -> None:
        """Nothing more will come."""


class JsonLinesLogger(Logger):
    """One JSON object per line: time, epoch, stage, metrics. What is no number is `null`."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int, stage: str | None = None) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        read = [(line, _read_line(line)) for line in lines]
        kept = [line for line, row in read if row and not is_superseded(row, step, stage)]
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        numbers = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "epoch": step, "stage": stage} | numbers)
        with open(self.path, "a") as file:
            file.write(f"{line}\n")


class CsvLogger(Logger):
    """A table with the columns epoch, stage, and every metric that any stage has."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, tp.Any]] = []

    def start(self, step: int, stage: str | None = None) -> None:
        self.rows = []
        if self.path.exists():
            with open(self.path, newline="") as file:
                rows = list(csv.DictReader(file))
            try:
                self.rows = [row for row in rows if not is_superseded(row, step, stage)]
            except (KeyError, TypeError, ValueError):
                raise ConfigError(
                    f"{self.path} is not a table of ours: move it away and it is begun anew."
                ) from None
        self._write()

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        self.rows.append({"epoch": step, "stage": stage} | metrics)
        self._write()

    def _write(self) -> None:
        """Write it all: a new metric is a new column of every row."""
        columns = dict.fromkeys(["epoch", "stage", *(name for row in self.rows for name in row)])
        table = io.StringIO()
        writer = csv.DictWriter(table, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, table.getvalue())


def is_superseded(row: tp.Mapping[str, tp.Any], step: int, stage: str | None) -> bool:
    """Whether a run that starts at `step` will write a row anew; see `Logger.start`."""
    return int(row["epoch"]) >= step and stage in (None, row["stage"])


def _read_line(line: str) -> dict[str, tp.Any] | None:
    """A line of JSON; `None` if a kill has cut it short."""
    try:
        row = json.loads(line)
        return {"epoch": int(row["epoch"]), "stage": row["stage"]}
    except (KeyError, TypeError, ValueError):
        return None


def write_atomically(path: Path, text: str) -> None:
    """Write a small file; whoever reads sees the old one or the new one."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    os.replace(unfinished, path)


try:
    import wandb
except ImportError:  # an optional extra
    wandb = None


logger = logging.getLogger(__name__)

WANDB_MODES = ("online", "offline", "disabled")
STAGES = ("train", "valid", "evaluate", "generate")  # in the order of an epoch


class TensorBoardLogger(Logger):
    """TensorBoard event files in `folder`."""

    def __init__(self, folder: Path, *, with_media: bool):
        self.folder = folder
        self.with_media = with_media

    def start(self, step: int, stage: str | None = None) -> None:
        purge_step = step if stage is None else None  # it would purge the other stages, too
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

    A step of wandb is a stage of an epoch. It takes no step twice, so a resumed run leaves out
    what it has already told.

    Args:
        folder: Where wandb writes its files.
        run_id: Identifies the run, so that a resumed run goes on in the same curves.
        config: The resolved configuration, shown beside the curves.
        with_media: Whether audio and pictures are sent too.
        mode: online | offline (files in `folder`, for `wandb sync`) | disabled; `None` is what
            `WANDB_MODE` says, or online.
        project, name, group: As wandb calls them; `None` lets it choose.
        finish_timeout: Seconds that `close` waits for what was not sent yet; it stays in `folder`.

    Raises:
        ConfigError: wandb is not installed, or there is no such mode.
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
        if wandb is None:
            raise ConfigError("logging.log_wandb=true needs wandb: pip install wandb.")
        if mode is not None and mode not in WANDB_MODES:
            raise ConfigError(
                f"wandb.mode is {mode!r}. Choose null or one of: {', '.join(WANDB_MODES)}."
            )
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
        self.run = wandb.init(**self.settings)  # type: ignore
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")
        self.first_step = self.run.starting_step if stage is None else None

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        named = {f"{stage}/{key}": value for key, value in metrics.items()}
        self._log(named, stage, step, commit=True)

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        if self.with_media:
            audio = wandb.Audio(wav.cpu().numpy().T, sample_rate=sample_rate)  # type: ignore
            self._log({key: audio}, "generate", step)

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        if self.with_media:
            self._log({key: wandb.Image(image)}, "generate", step)  # type: ignore

    def _log(
        self, values: dict[str, tp.Any], stage: str, epoch: int, commit: bool | None = None
    ) -> None:
        values = values | {"epoch": epoch}
        if self.first_step is None:  # a stage by itself: it comes last, whatever was there
            self.run.log(values, commit=commit)
            return
        step = len(STAGES) * epoch + (STAGES.index(stage) if stage in STAGES else 0)
        if step >= self.first_step:
            self.run.log(values, step=step, commit=commit)

    def close(self) -> None:
        self.run.finish()


class Loggers:
    """All back ends of a run behind the interface of one."""

    def __init__(self, loggers: tp.Iterable[Logger] = ()):
        self.active = list(loggers)

    def start(self, step: int, stage: str | None = None) -> None:
        """Open the back ends; they forget what is measured anew, see `Logger.start`."""
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
                logger.warning("%s is off: %s", type(back_end).__name__, error)


def get_loggers(cfg: DictConfig, folder: Path, sig: str) -> Loggers:
    """The back ends that `logging.log_*` asks for; none on other processes than the first."""
    if not is_rank_zero():
        return Loggers()
    chosen: list[Logger] = []
    if cfg.logging.log_csv:
        chosen.append(CsvLogger(folder / "metrics.csv"))
    if cfg.logging.log_jsonl:
        chosen.append(JsonLinesLogger(folder / "metrics.jsonl"))
    if cfg.logging.log_tensorboard:
        place = folder / (cfg.tensorboard.sub_dir or "tensorboard") / (cfg.tensorboard.name or "")
        chosen.append(TensorBoardLogger(place, with_media=cfg.tensorboard.with_media_logging))
    if cfg.logging.log_wandb:
        config: tp.Any = OmegaConf.to_container(cfg, resolve=True)
        options = dict(cfg.wandb)
        with_media = options.pop("with_media_logging")
        chosen.append(
            WandbLogger(folder, run_id=sig, config=config, with_media=with_media, **options)
        )
    return Loggers(chosen)


SKIPPED, WARMUP, RECORDED = 2, 2, 4  # updates


class Profiler:
    """Writes a trace of the first updates of a run, and a table of the costliest operations.

    Args:
        folder: Where `trace.json` and `operations.txt` go.
        enabled: Otherwise nothing is done.
        device: Whose kernels are recorded beside the CPU's.
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
        """An update has ended."""
        if self.running is not None:
            self.running.step()

    def _write(self, done: tp.Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        done.export_chrome_trace(str(self.folder / "trace.json"))
        table = done.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
        (self.folder / "operations.txt").write_text(table)
        logger.info("The profile of %d updates is in %s.", RECORDED, self.folder)
        self.running = None
