"""Where metrics and samples of a run are shown beside the console.

One small interface, one class per back end. A back end that fails is named once in the log and
left out from then on: no picture is worth a training run. Only the first process logs.
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

logger = logging.getLogger(__name__)


class Logger(tp.Protocol):
    """A place that shows how a run is doing. `step` counts epochs."""

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None: ...

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None: ...

    def log_image(self, key: str, image: np.ndarray, step: int) -> None: ...

    def close(self) -> None: ...


class TensorBoardLogger:
    """TensorBoard event files in `folder`."""

    def __init__(self, folder: Path, *, with_media: bool):
        self.writer = SummaryWriter(str(folder))
        self.with_media = with_media

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


class WandbLogger:
    """Weights & Biases; `WANDB_MODE=offline` keeps everything in `folder`.

    Args:
        folder: Where wandb writes its files.
        run_id: Identifies the run, so that a resumed run goes on in the same curves.
        config: The resolved configuration, shown beside the curves.
        with_media: Whether audio and pictures are sent too.
        project, name, group: As wandb calls them; `None` lets it choose.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run_id: str,
        config: dict[str, tp.Any],
        with_media: bool,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
    ):
        if wandb is None:
            raise ConfigError("logging.log_wandb=true needs wandb: pip install wandb.")
        self.with_media = with_media
        self.run = wandb.init(
            dir=str(folder),
            id=run_id,
            project=project or "audiocraft",
            name=name or run_id,
            group=group,
            config=config,
            resume="allow",
        )

    def log_metrics(self, stage: str, metrics: dict[str, float], step: int) -> None:
        self.run.log({f"{stage}/{key}": value for key, value in metrics.items()} | {"epoch": step})

    def log_audio(self, key: str, wav: Tensor, sample_rate: int, step: int) -> None:
        if self.with_media:
            audio = wandb.Audio(wav.cpu().numpy().T, sample_rate=sample_rate)  # type: ignore
            self.run.log({key: audio, "epoch": step})

    def log_image(self, key: str, image: np.ndarray, step: int) -> None:
        if self.with_media:
            self.run.log({key: wandb.Image(image), "epoch": step})  # type: ignore

    def close(self) -> None:
        self.run.finish()


class Loggers:
    """All back ends of a run behind the interface of one."""

    def __init__(self, loggers: tp.Iterable[Logger] = ()):
        self.active = list(loggers)

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
    if cfg.logging.log_tensorboard:
        sub_dir = cfg.tensorboard.sub_dir or "tensorboard"
        with_media = cfg.tensorboard.with_media_logging
        chosen.append(TensorBoardLogger(folder / sub_dir, with_media=with_media))
    if cfg.logging.log_wandb:
        config: tp.Any = OmegaConf.to_container(cfg, resolve=True)
        chosen.append(
            WandbLogger(
                folder,
                run_id=sig,
                config=config,
                with_media=cfg.wandb.with_media_logging,
                project=cfg.wandb.project,
                name=cfg.wandb.name,
                group=cfg.wandb.group,
            )
        )
    return Loggers(chosen)
