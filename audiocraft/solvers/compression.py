"""Training of a codec: reconstruct a waveform through a quantizer, against discriminators.

Method: Défossez et al., 2022, https://arxiv.org/abs/2210.13438; Zeghidour et al., 2021,
https://arxiv.org/abs/2107.03312 (quantizer dropout, dead codes).
"""

import contextlib
import logging
import typing as tp
from pathlib import Path

import flashy
import torch
from flashy.distrib import is_rank_zero
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ..adversarial.builders import get_adversarial_losses
from ..data.audio_dataset import AudioDataset
from ..data.batch import Batch
from ..data.loaders import get_audio_datasets
from ..losses import SISNR
from ..losses.builders import get_balancer, get_loss
from ..metrics.codec_quality import log_mel_distance
from ..metrics.visqol import Visqol
from ..models import builders
from ..optim.builders import (
    get_ema,
    get_lr_scheduler,
    get_optim_parameter_groups,
    get_optimizer,
)
from ..quantization import QuantizedResult, ResidualVectorQuantizer
from ..utils.config_arguments import arguments, as_config_error
from ..utils.randomness import derive_generator
from .adversarial_schedule import Phase, get_adversarial_schedule
from .base import StandardSolver
from .codec_diagnostics import CodebookUsage, CodecMonitor
from .codec_samples import CodecSampleWriter, quality
from .codec_settings import check_codec_settings, with_segment_infos
from .codec_update import CodecUpdate
from .codec_warm_start import load_adversaries, load_codec_source, read_codec_source
from .distributed import rank, sum_over_processes, world_size
from .optim_step import OptimizerStep
from .sample_generation import load_clips

logger = logging.getLogger(__name__)

WARMUP = 500  # updates of new discriminators on a frozen codec, unless `adversarial.warmup` is set
NAMED_FILES = 8  # of a batch, in an error
Metrics = dict[str, float]


class CompressionSolver(StandardSolver):
    """Trains a codec with a residual vector quantizer (`config/solver/compression/…`)."""

    model: tp.Any
    bar_metrics = ("g_loss", "d_loss", "lr", "grad_norm")

    def __init__(self, cfg: DictConfig):
        check_codec_settings(cfg)
        super().__init__(cfg)

    def build(self) -> None:
        cfg = self.cfg
        self.dataloaders = get_audio_datasets(
            with_segment_infos(cfg), rank=rank(), world_size=world_size()
        )
        with as_config_error("seanet, rvq or encodec"):
            self.model = builders.get_compression_model(cfg).to(self.device)
        self.optimizer = get_optimizer(get_optim_parameter_groups(self.model), cfg.optim)
        total_updates = cfg.optim.epochs * len(self.dataloaders.get("train", ()))
        self.lr_scheduler = get_lr_scheduler(self.optimizer, cfg.schedule, total_updates)
        self.ema = get_ema(self.model, cfg.optim.ema)
        self.adv_losses = get_adversarial_losses(cfg, self.device)
        self.adversarial_schedule = get_adversarial_schedule(
            cfg.adversarial, active=len(self.adv_losses) > 0
        )
        self.update = self.build_update()
        self.balancer = self.update.balancer
        self.sisnr = SISNR(cfg.sample_rate, segment=None)
        self.usage = CodebookUsage(self.model.total_codebooks, self.model.cardinality)
        self.monitor = CodecMonitor()
        self.visqol = None
        if cfg.evaluate.metrics.visqol:
            self.visqol = Visqol(**arguments(cfg.metrics.visqol, "metrics.visqol", Visqol))
        self.register_stateful("adv_losses", "adversarial_schedule", "balancer", "usage")
        if self.lr_scheduler is not None:
            self.register_stateful("lr_scheduler")
        self.log_description()

    def build_update(self) -> CodecUpdate:
        """Losses with their weights, and the step of the optimizer."""
        cfg = self.cfg
        weights: dict[str, float] = dict(cfg.losses)
        adversarial = {kind: weights.pop(kind) for kind in ("adv", "feat")}
        active = {name: weight for name, weight in weights.items() if weight}
        losses = nn.ModuleDict({name: get_loss(name, cfg) for name in active}).to(self.device)
        for kind, weight in adversarial.items():
            active |= {f"{kind}_{name}": weight for name in self.adv_losses}
        step = OptimizerStep(
            self.model,
            self.optimizer,
            scaler=torch.amp.GradScaler(self.device.type, enabled=False),  # type: ignore
            lr_scheduler=self.lr_scheduler,
            ema=self.ema,
            max_norm=cfg.optim.max_norm,
        )
        return CodecUpdate(losses, self.adv_losses, get_balancer(active, cfg.balancer), step)

    @property
    def quantizer(self) -> ResidualVectorQuantizer:
        return self.model.quantizer

    def log_description(self) -> None:
        """Log what is trained on what, and which files are resampled."""
        model = self.model
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        critics = sum(p.numel() for p in self.adv_losses.parameters()) / 1e6
        logger.info(
            "%.1f M parameters to train on %s, and %.1f M of discriminators; %g frames per second, "
            "%d codebooks of %d entries",
            parameters,
            self.device,
            critics,
            model.frame_rate,
            model.total_codebooks,
            model.cardinality,
        )
        datasets = {s: tp.cast(AudioDataset, dl.dataset) for s, dl in self.dataloaders.items()}
        logger.info("Files: %s", ", ".join(f"{len(d.meta)} {s}" for s, d in datasets.items()))
        for split, dataset in datasets.items():
            rates = {int(meta.sample_rate) for meta in dataset.meta} - {self.cfg.sample_rate}
            if rates:
                logger.info(
                    "datasource.%s: files of %s Hz are resampled to sample_rate=%d.",
                    split,
                    ", ".join(map(str, sorted(rates))),
                    self.cfg.sample_rate,
                )

    # One step.

    def run_step(self, idx: int, batch: Batch, metrics: dict) -> dict:
        """Learn from one batch, or only measure it."""
        wavs = tp.cast(Tensor, batch.wavs).to(self.device)  # [B, C, T]
        try:
            step = self.train_step(idx, wavs) if self.is_training else self.measure(wavs)
        except FloatingPointError as error:
            raise self.divergence_error(
                f"numbers of update {idx + 1} are not finite ({error}; files of the batch: "
                f"{name_files(batch)})"
            ) from error
        if self.is_training:
            self.monitor.watch_update(step)
        return metrics | average_over_processes(step)

    def train_step(self, idx: int, wavs: Tensor) -> Metrics:
        """One update: discriminators first, then the codec against the updated ones."""
        schedule = self.adversarial_schedule
        phase = schedule.phase
        self.follow_learning_rate()
        result = self.reconstruct(idx, wavs, frozen=phase is Phase.DISCRIMINATORS)
        metrics = {"bandwidth": float(result.bandwidth)}
        if phase is not Phase.GENERATOR and schedule.draw(self.epoch, idx):
            metrics |= self.update.update_adversaries(result.x, wavs)
        if phase is not Phase.DISCRIMINATORS:
            metrics |= self.update.update_generator(result, wavs, phase is Phase.BOTH)
        schedule.advance()
        return metrics

    def reconstruct(self, idx: int, wavs: Tensor, frozen: bool = False) -> QuantizedResult:
        """Codes and estimate of a training batch; codebooks follow it unless they are frozen."""
        if frozen:
            self.model.eval()
            with torch.no_grad(), self.autocast:
                result = self.model(wavs)
            self.model.train()
            self.usage.add(result.codes)
            return result._replace(x=result.x.float())
        # The same in every process: which codebooks a batch uses must agree.
        rng = derive_generator("codec", self.cfg.seed, self.epoch, idx)
        dead = [book.dead_entries() & (book.inited > 0) for book in self.quantizer.codebooks]
        with self.autocast:
            result = self.model(wavs, rng)
        self.usage.add(result.codes, dead[: result.codes.shape[1]])
        return result._replace(x=result.x.float())

    def follow_learning_rate(self) -> None:
        """Scale the learning rates of the discriminators as the schedule scales the codec's."""
        ratio = self.optimizer.param_groups[0]["lr"] / self.cfg.optim.lr if self.cfg.optim.lr else 1
        own = self.cfg.adversarial.lr
        base = self.cfg.optim.lr if own is None else own
        for _, adversary in self.update.adversaries():
            for group in adversary.optimizer.param_groups:
                group["lr"] = base * ratio

    def measure(self, wavs: Tensor) -> Metrics:
        """Losses and quality of a held-out batch."""
        with self.autocast:
            result = self.model(wavs)
        estimate = result.x.float()
        self.usage.add(result.codes)
        losses = self.update.generator_losses(estimate, wavs)
        mono, mono_estimate = (wav.mean(dim=1, keepdim=True) for wav in (wavs, estimate))
        metrics = {name: float(loss) for name, loss in losses.items()}
        metrics["bandwidth"] = float(result.bandwidth)
        if self.cfg.evaluate.metrics.sisnr or self.current_stage != "evaluate":
            metrics["si_snr"] = -float(self.sisnr(estimate, wavs))
        distances = log_mel_distance(mono, mono_estimate, self.cfg.sample_rate)
        metrics["mel_distance"] = float(distances.mean())
        metrics["level"] = float(estimate.square().mean().sqrt())
        metrics["level_original"] = float(wavs.square().mean().sqrt())
        if self.current_stage == "evaluate":
            metrics |= quality(wavs, estimate, self.cfg.sample_rate)
            if self.visqol is not None:
                scores = self.visqol(wavs, estimate, self.cfg.sample_rate)
                metrics["visqol"] = sum(scores) / len(scores)
        return metrics

    # Stages.

    def set_training(self) -> None:
        self.model.train()
        self.adv_losses.train()

    def train(self) -> dict:
        """One epoch of learning, with the use of the codebooks."""
        self.monitor.start_epoch()
        if not self.progress.updates:
            self.usage.reset()
        return super().train() | self.usage_metrics()

    def valid(self) -> dict:
        """Losses and quality on held-out music, with averaged weights."""
        return self.held_out(super().valid)

    def evaluate(self) -> dict:
        """Losses and quality on the evaluation set, with averaged weights."""
        return self.held_out(super().evaluate)

    def held_out(self, stage: tp.Callable[[], dict]) -> dict:
        """Run a stage with averaged weights; training's counts of codes are kept."""
        trained, self.usage = self.usage, CodebookUsage(*self.usage.counts.shape)
        self.adv_losses.eval()
        try:
            with self.averaged():
                metrics = stage() | self.usage_metrics()
        finally:
            self.usage = trained
        self.monitor.watch_level(metrics["level"], metrics["level_original"])
        return metrics

    def usage_metrics(self) -> Metrics:
        """Use of the codebooks in this stage; warns of a collapse."""
        self.monitor.watch_codebooks(self.usage)
        return self.usage.metrics(self.model.frame_rate)

    def generate_samples(self) -> dict[str, float]:
        """Write this process's share of originals and reconstructions."""
        if "generate" not in self.dataloaders:
            logger.info("datasource.generate is not set: no samples are written.")
            return {"samples": 0.0}
        audio: tp.Any = OmegaConf.to_container(self.cfg.generate.audio, resolve=True)
        writer = CodecSampleWriter(self.samples_folder, self.loggers, audio)
        clips = load_clips(self.dataloaders["generate"], self.cfg.seed, rank())
        self.model.eval()
        with self.averaged():
            for clip in self.progress_bar("generate", clips, 0, len(clips)):
                self.watchdog.feed()
                writer.write(self.model, clip, self.logged_epoch)
        return {"samples": float(len(clips))}

    @property
    def samples_folder(self) -> Path:
        return self.folder / self.cfg.generate.path / str(self.logged_epoch)

    # Weights.

    def averaged(self) -> tp.ContextManager:
        """Context with the moving average of the weights, where there is one, in their place."""
        return contextlib.nullcontext() if self.ema is None else self.ema.averaged()

    def weights(self) -> dict[str, Tensor]:
        with self.averaged():
            return {key: value.clone() for key, value in self.model.state_dict().items()}

    def keep_best(self, metrics: dict) -> None:
        """Keep the newest weights: no metric ranks codecs as a listening test does."""
        self.best_state.update(-float(self.epoch), self.weights())

    def continue_from(self, source: str) -> None:
        """Start from the weights of a released codec, an experiment or a file.

        Discriminators that it lacks are warmed up while the codec is frozen.
        """
        found = read_codec_source(source)
        load_codec_source(self.model, found, self.cfg)
        missing = load_adversaries(self.adv_losses, found)
        if self.ema is not None:
            self.ema.restart()
        logger.info("Starting from the weights of %s.", source)
        if missing and self.cfg.adversarial.warmup is None:
            self.adversarial_schedule.warmup = WARMUP
            logger.info(
                "%s has no discriminators (%s): for %d updates only they learn; "
                "adversarial.warmup changes that.",
                source,
                ", ".join(missing),
                WARMUP,
            )

    # Logs.

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        return flashy.Formatter(
            {"lr": ".2E", "perplexity": ".1f", "revived": ".0f", "bits_per_second": ".0f"},
            exclude_keys=["*_q[0-9]*"],  # in the history and in TensorBoard
        )

    def log_results(self) -> None:
        if not is_rank_zero() or not self.history:
            return
        last = self.history[-1]["valid"]
        sig = self.xp.sig
        logger.info(
            "\n".join(
                [
                    f"Validation: mel distance {last['mel_distance']:.3f} nepers, SI-SNR "
                    f"{last['si_snr']:.1f} dB, {last['bandwidth']:.2f} kb/s.",
                    f"  checkpoint  {self.checkpoints.last}",
                    f"  samples     {self.folder / self.cfg.generate.path}",
                    f"  history     {self.folder / 'history.json'}",
                    "Next:",
                    f"  tensorboard --logdir {self.folder}",
                    f"  dora run solver=musicgen/… compression_model_checkpoint=//sig/{sig}",
                    f"  dora run solver=compression/… continue_from=//sig/{sig}",
                ]
            )
        )


def name_files(batch: Batch) -> str:
    """Files and positions of the segments of a batch."""
    named = [f"{info.meta.path} at {info.seek_time:.2f} s" for info in batch.infos[:NAMED_FILES]]
    more = len(batch.infos) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def average_over_processes(metrics: Metrics) -> Metrics:
    """Means of metrics over all processes, which have the same ones; all have to call it."""
    if world_size() == 1:
        return metrics
    values = torch.tensor(list(metrics.values()), dtype=torch.float64)
    return dict(zip(metrics, (sum_over_processes(values) / world_size()).tolist()))
