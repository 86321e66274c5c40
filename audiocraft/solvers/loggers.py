"""Where metrics and samples of a run are shown beside the console.

One small interface, one class per back end: TensorBoard and Weights & Biases here, plain files in
`file_loggers.py`. A back end that fails is named once in the log and left out from then on: no
picture is worth a training run. Only the first process logs.

A run that was interrupted measures the epoch again in which it was. `start` says which epoch that
is, and every back end forgets what it has of it, so that nothing stands anywhere twice.
"""

import logging
import typing as tp
from pathlib import Path

import numpy as np
from flashy.distrib import is_rank_zero
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

try:
    import wandb
except ImportError:  # an optional extra
    wandb = None

from ..errors import ConfigError
from .file_loggers import CsvLogger, JsonLinesLogger, Logger

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
