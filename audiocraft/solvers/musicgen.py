"""Training a language model of music on text and style.

The solver ties together the data, the frozen tokenizer, the conditions with their dropout, and
the language model. Frames that the style conditioner has heard do not count in the loss.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563.
"""

import contextlib
import logging
import typing as tp
from pathlib import Path

import flashy
import torch
from flashy.distrib import is_rank_zero
from omegaconf import OmegaConf
from torch import Tensor

from ..data.audio_dataset import AudioDataset
from ..data.batch import Batch
from ..data.loaders import get_audio_datasets
from ..errors import AudioError, ConfigError
from ..models import builders, loaders
from ..models.codecs.chunked_encoding import describe_tokenizer
from ..models.lm import LMModel
from ..models.lora import (
    Lora,
    add_adapters,
    fingerprint,
    load_base_weights,
    merged_state_dict,
    save_adapter,
)
from ..models.musicgen import MusicGen
from ..modules.conditioners import StyleConditioner, merge_excerpt_masks
from ..optim.builders import get_ema, get_lr_scheduler, get_optimizer
from .base import StandardSolver
from .cross_entropy import TokenCounts, codebook_cross_entropy, loss_metrics
from .distributed import (
    derive_batch_generators,
    pad_across_processes,
    rank,
    sum_over_processes,
    world_size,
)
from .optim_step import OptimizerStep, check_accumulation
from .progress import RunningMean
from .sample_generation import (
    SampleWriter,
    get_conditioning_modes,
    get_generation_params,
    load_clips,
    write_samples,
)
from .sharding import check_sharding, gather_weights, scatter_weights, shard
from .token_caching import write_token_cache
from .validation import check_settings, padding_warning
from .warm_start import check_lora, warn_fast_embeddings, warn_setting_differences

logger = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"


class MusicGenSolver(StandardSolver):
    """Trains `LMModel` on the tokens of music, conditioned on text and style."""

    model: LMModel

    def build(self) -> None:
        cfg = self.cfg
        check_settings(cfg)
        self.compression_model = loaders.load_compression_model(
            cfg.compression_model_checkpoint,
            self.device,
            num_codebooks=cfg.compression_model_n_q,
            interleave=cfg.interleave_stereo_codebooks,
        )
        builders.check_tokenizer_matches(cfg, self.compression_model)
        check_accumulation(cfg.optim.accumulate, cfg.dataset.batch_size, world_size())
        self.dataloaders = get_audio_datasets(
            cfg,
            rank=rank(),
            world_size=world_size(),
            tokenizer=describe_tokenizer(self.compression_model, cfg.compression_model_checkpoint),
        )
        self.model = self.build_model()
        self.lora = Lora(**cfg.lora)
        self.base_model: dict[str, str] = {}  # name and fingerprint of what adapters adapt
        if self.lora.use:
            check_lora(cfg, is_sharded=self.sharding.active)
            add_adapters(self.model, self.lora)
            self.register_stateful("base_model")
        if cfg.compile.use:
            self.model.transformer.compile_layers(cfg.compile.mode)
        if self.sharding.active:
            check_sharding(cfg)
            shard(self.model, self.sharding, self.device)
        self.optimizer = get_optimizer(self.model.param_groups(), cfg.optim)
        total_updates = cfg.optim.epochs * len(self.dataloaders["train"])
        self.lr_scheduler = get_lr_scheduler(self.optimizer, cfg.schedule, total_updates)
        self.ema = get_ema(self.model, cfg.optim.ema)
        needs_scaler = self.autocast_dtype is torch.float16 or self.sharding.needs_scaler
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaler)  # type: ignore
        self.updates = OptimizerStep(
            self.model,
            self.optimizer,
            scaler=self.scaler,
            lr_scheduler=self.lr_scheduler,
            ema=self.ema,
            max_norm=cfg.optim.max_norm,
            eager_sync=cfg.optim.eager_sync,
            is_sharded=self.sharding.active,
        )
        self.token_counts = TokenCounts(self.model.num_codebooks, self.model.card)
        self.register_stateful("scaler", "token_counts")
        if self.lr_scheduler is not None:
            self.register_stateful("lr_scheduler")
        self.describe()

    def build_model(self) -> LMModel:
        """The language model of the configuration, with new weights."""
        return builders.get_lm_model(self.cfg, loaders.load_compression_model).to(self.device)

    def describe(self) -> None:
        """Say what is about to be trained, and on what."""
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        datasets = {
            split: tp.cast(AudioDataset, dl.dataset) for split, dl in self.dataloaders.items()
        }
        logger.info("%.1f M parameters to train, on %s", parameters / 1e6, self.device)
        logger.info(
            "Files: %s", ", ".join(f"{len(d.meta)} {split}" for split, d in datasets.items())
        )
        padding = padding_warning(
            datasets["train"].meta.durations, self.cfg.dataset.segment_duration
        )
        if padding:
            logger.warning(padding)

    def run(self) -> None:
        """Train, or encode the data sets where `cache.write` asks for that."""
        if self.cfg.cache.write:
            write_token_cache(self.cfg, self.model.condition_provider, self.device.type)
        else:
            super().run()

    # One step.

    def run_step(self, idx: int, batch: Batch, metrics: dict) -> dict:
        """Learn from one batch, piece by piece, or only measure it when validating."""
        pieces = batch.split(self.cfg.optim.accumulate if self.is_training else 1)
        mean = RunningMean()
        for number, piece in enumerate(pieces):
            loss, measured = self.predict(piece, idx * len(pieces) + number)
            if self.is_training:
                self.updates.add(loss, number, len(pieces))
            mean.add(measured)
        if self.is_training:
            metrics.update(self.update())
        return metrics | mean.means()

    def predict(self, piece: Batch, idx: int) -> tuple[Tensor, dict[str, float]]:
        """How surprised the model is by piece number `idx`: a loss to learn from, and metrics."""
        codes, real = self.tokenize(piece)  # [B, K, F] long, [B, K, F] bool
        prepared = self.prepare_conditions(piece, idx)  # dice for dropout and excerpts

        with self.autocast:
            conditions, output = self.model.encode_and_predict(
                codes, prepared, pad_across_processes if self.cfg.as_one_process else None
            )
            learnable = (
                real & output.mask & ~merge_excerpt_masks(conditions, codes.shape[-1])[:, None]
            )
            share = codebook_cross_entropy(
                output.logits,
                codes,
                learnable,
                skip_empty=True,
                counts=sum_over_processes(learnable.sum(dim=(0, 2))),
            )

        self.count_tokens(codes, learnable)
        loss, *per_codebook = sum_over_processes(torch.cat([s.detach().view(-1) for s in share]))
        self.check_finite(loss)
        # Gradients will be averaged over processes, and the shares are to be summed.
        return share[0] * world_size(), loss_metrics(loss, torch.stack(per_codebook))

    @torch.no_grad()
    def tokenize(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Turn a batch of audio into tokens, and tell which of them come from real audio.

        A pre-encoded batch holds its tokens already, `[B, K, F]` long.

        Raises:
            ConfigError: The tokenizer rescales what it reads.
        """
        if batch.codes is not None:
            codes = batch.codes.to(self.device)
        else:
            wavs = tp.cast(Tensor, batch.wavs).to(self.device)
            codes, scale = self.compression_model.encode(wavs)
            if scale is not None:
                raise ConfigError("The tokenizer rescales its input, which the model cannot learn.")
        lengths = torch.tensor(batch.num_samples, dtype=torch.float64)  # samples
        frames = (lengths / self.cfg.sample_rate * self.compression_model.frame_rate).ceil()
        real = torch.arange(codes.shape[-1]) < frames[:, None]  # [B, F]
        real = real[:, None].expand(codes.shape).to(self.device)
        if self.cfg.tokens.padding_with_special_token:
            codes = codes.masked_fill(~real, self.model.special_token_id)
        return codes, real

    def prepare_conditions(self, batch: Batch, idx: int) -> dict[str, tp.Any]:
        """Decide what the model is told about each sample; all dice of a step are thrown here."""
        attributes = batch.condition_attributes()
        if not self.is_training:
            attributes = [self.model.condition_provider.without_short_clips(a) for a in attributes]
        generators = derive_batch_generators(
            attributes,
            ("conditions", self.cfg.seed, self.current_stage, self.epoch, idx),
            sample_rate=self.cfg.sample_rate,
            as_one_process=self.cfg.as_one_process,
        )
        attributes = self.model.drop_conditions(attributes, generators.batch)
        return self.model.condition_provider.prepare(
            attributes, generators if self.is_training else None
        )

    def check_finite(self, loss: Tensor) -> None:
        """Stop before a loss that is no number spoils the weights.

        Raises:
            ConfigError: It is none; the run's checkpoints are untouched.
        """
        if not torch.isfinite(loss):
            raise self.divergence_error(f"loss became {loss.item()}")

    def update(self) -> dict:
        """Move the weights once; return the learning rate and the norm of the gradient.

        Raises:
            ConfigError: The gradient is no number; the weights are untouched.
        """
        try:
            return self.updates.step()
        except FloatingPointError as error:
            raise self.divergence_error(str(error)) from error

    # Baselines: what the tokens give away without a model.

    def count_tokens(self, codes: Tensor, learnable: Tensor) -> None:
        """Count training tokens in the first epoch, held-out tokens whenever they are measured."""
        if self.is_training and self.epoch == 1:
            self.token_counts.add(codes, learnable)
        elif not self.is_training:
            self.held_out_counts.add(codes, learnable)

    def valid(self) -> dict:
        """Loss on held-out music, beside what token frequencies alone would give."""
        return self.measure(super().valid)

    def evaluate(self) -> dict:
        """Loss on the evaluation set, beside what token frequencies alone would give."""
        return self.measure(super().evaluate)

    def measure(self, stage: tp.Callable[[], dict]) -> dict:
        """Run a stage with the averaged weights and add the baselines."""
        self.held_out_counts = TokenCounts(self.model.num_codebooks, self.model.card)
        with self.averaged():
            metrics = stage()
        if self.token_counts.counts.any():  # none where a run has not trained, but only measures
            metrics["ce_unigram"] = self.token_counts.cross_entropy(self.held_out_counts)
        return metrics | {"ce_uniform": self.token_counts.uniform}

    # Weights.

    def averaged(self) -> tp.ContextManager:
        """The moving average of the weights in place of the weights, where there is one."""
        return contextlib.nullcontext() if self.ema is None else self.ema.averaged()

    def weights(self) -> dict[str, Tensor]:
        with self.averaged():
            if self.lora.use:
                return merged_state_dict(self.model)
            return {key: value.clone() for key, value in gather_weights(self.model).items()}

    def on_best(self) -> None:
        """Also keep the adapters by themselves."""
        if self.lora.use and is_rank_zero():
            with self.averaged():
                save_adapter(self.model, self.lora, self.base_model, self.folder / ADAPTER)

    def set_training(self) -> None:
        """A style conditioner that is not adapted keeps its codebooks, too."""
        super().set_training()
        if self.lora.use and not self.lora.style:
            for conditioner in self.model.condition_provider.conditioners.values():
                if isinstance(conditioner, StyleConditioner):
                    conditioner.freeze_statistics()

    def continue_from(self, source: str) -> None:
        """Start from the weights of a published model, an experiment or a file."""
        warn_setting_differences(self.cfg, source)
        warn_fast_embeddings(self.cfg)
        if self.sharding.active or self.lora.use:
            model = self.build_model()
            loaders.load_lm_weights(model, source)
            state = model.state_dict()
            if self.lora.use:
                load_base_weights(self.model, state)
                self.base_model |= {"name": source, "fingerprint": fingerprint(state)}
            else:
                scatter_weights(self.model, state)
        else:
            loaders.load_lm_weights(self.model, source)
        if self.ema is not None:
            self.ema.restart()
        logger.info("Starting from the weights of %s.", source)

    # Listening.

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        return flashy.Formatter({"lr": ".2E", "ppl*": ".1f"})

    def generate(self) -> dict:
        """Make samples in every way that the model was trained for, each process its share.

        Training does not depend on them: what cannot be written is told, and it goes on.

        Raises:
            AudioError: They cannot be written, and were all that was asked for.
        """
        try:
            metrics = self.generate_own_share()
        except (OSError, AudioError) as error:
            if self.cfg.execute_only:
                raise AudioError(f"The samples cannot be written: {error}") from error
            logger.warning("The samples of epoch %d cannot be written: %s", self.epoch, error)
            metrics = {"samples": 0.0, "real_time_factor": 0.0}
        totals = torch.tensor(list(metrics.values()), dtype=torch.float64)
        return dict(zip(metrics, sum_over_processes(totals).tolist()))

    def generate_own_share(self) -> dict[str, float]:
        """This process's share of the samples; what `write_samples` measures of it."""
        cfg = self.cfg.generate
        with self.averaged():
            model = MusicGen(
                self.xp.sig,
                self.compression_model,
                self.generation_model(),
                self.cfg.dataset.segment_duration,
            )
            model.generation_params = get_generation_params(self.cfg)
            model.set_custom_progress_callback(lambda done, total: self.watchdog.feed())
            loader = self.dataloaders["generate"]
            return write_samples(
                model,
                load_clips(loader, self.cfg.seed, rank()),
                get_conditioning_modes(self.cfg),
                SampleWriter(
                    self.samples_folder,
                    model.sample_rate,
                    self.loggers,
                    tp.cast(dict, OmegaConf.to_container(cfg.audio, resolve=True)),
                ),
                epoch=self.logged_epoch,
                batch_size=loader.batch_size or 1,
                progress=lambda batches: self.bar("generate", batches, 0, len(batches)),
            )

    def generation_model(self) -> LMModel:
        """A model that can generate by itself, and fast: not in shards, and without adapters."""
        if not self.sharding.active and not self.lora.use:
            return self.model
        state = merged_state_dict(self.model) if self.lora.use else gather_weights(self.model)
        model = self.build_model()
        model.load_state_dict(state)
        return model

    @property
    def samples_folder(self) -> Path:
        return self.folder / self.cfg.generate.path / str(self.logged_epoch)

    # The end.

    def log_results(self) -> None:
        if not is_rank_zero() or not self.history:
            return
        last = self.history[-1]["valid"]
        left = {
            "samples": self.folder / self.cfg.generate.path,
            "checkpoint": self.checkpoints.last,
            "adapters": self.folder / ADAPTER,
            "history": self.folder / "history.json",
        }
        logger.info(
            "Validation cross entropy %.3f nat per token; token frequencies alone give %.3f, "
            "a uniform guess ln(%d) = %.3f.",
            last["ce"],
            last["ce_unigram"],
            self.model.card,
            last["ce_uniform"],
        )
        logger.info(
            "\n".join(
                [
                    "Everything is in place:",
                    *(f"  {what:12} {path}" for what, path in left.items() if path.exists()),
                    "Try next:",
                    f"  tensorboard --logdir {self.folder}",
                    f"  python -m audiocraft generate --model //sig/{self.xp.sig} --text '…'",
                    f"  MusicGen.get_pretrained('//sig/{self.xp.sig}')  # in Python",
                    "  the same command with other settings, such as optim.epochs=20",
                ]
            )
        )
