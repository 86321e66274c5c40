"""MusicGen solver: trains the language model on music tokens with text and style conditions.

Each step encodes audio to tokens with the frozen tokenizer, computes the conditions after dropout,
and minimizes the cross entropy of the tokens. Frames covered by the style excerpt are excluded.

Method: Rouard et al., 2024, https://arxiv.org/abs/2407.12563.
"""

import contextlib
import logging
import math
import shlex
import typing as tp

import flashy
import torch
from flashy.distrib import is_rank_zero
from omegaconf import OmegaConf
from torch import Tensor

from ..data.audio_dataset import AudioDataset
from ..data.batch import Batch
from ..data.loaders import get_audio_datasets
from ..errors import ConfigError
from ..models import builders, loaders
from ..models.codecs.base import CompressionModel
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
from ..utils.device import to_device
from .base import StandardSolver
from .cross_entropy import TokenCounts, add_perplexities, codebook_cross_entropy, loss_metrics
from .distributed import (
    derive_batch_generators,
    pad_across_processes,
    rank,
    sum_over_processes,
    world_size,
)
from .optim_step import OptimizerStep, check_accumulation
from .sample_generation import (
    SampleWriter,
    get_conditioning_modes,
    get_generation_params,
    load_clips,
    write_samples,
)
from .sharding import check_sharding, gather_weights, scatter_weights, shard
from .validation import check_settings, padding_warning
from .warm_start import check_lora, warn_fast_embeddings, warn_setting_differences

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter.safetensors"


class MusicGenSolver(StandardSolver):
    """Trains `LMModel` on the tokens of music, conditioned on text and style."""

    model: LMModel

    # Construction.

    def build(self) -> None:
        cfg = self.cfg
        check_settings(cfg)
        self.compression_model = self.load_compression_model()
        check_accumulation(cfg.optim.accumulate, cfg.dataset.batch_size, world_size())
        self.dataloaders = get_audio_datasets(
            cfg,
            rank=rank(),
            world_size=world_size(),
            tokenizer=describe_tokenizer(self.compression_model, cfg.compression_model_checkpoint),
        )
        self.model = self.build_model()
        self.lora = Lora(**cfg.lora)
        self.base_model: dict[str, str] = {}  # name and fingerprint of the model that LoRA adapts
        self.adapt_and_shard()
        self.build_optimizer()
        self.token_counts = self.new_token_counts()
        self.held_out_counts = self.new_token_counts()
        self.register_stateful("token_counts")
        self.log_model_and_data()

    def load_compression_model(self) -> CompressionModel:
        """Load the frozen tokenizer and check that it fits the configuration."""
        model = loaders.load_compression_model(
            self.cfg.compression_model_checkpoint,
            self.device,
            num_codebooks=self.cfg.compression_model_n_q,
            interleave=self.cfg.interleave_stereo_codebooks,
        )
        builders.check_tokenizer_matches(self.cfg, model)
        return model

    def build_model(self) -> LMModel:
        """Build the language model with newly initialized weights."""
        return builders.get_lm_model(self.cfg, loaders.load_compression_model).to(self.device)

    def adapt_and_shard(self) -> None:
        """Add LoRA adapters, compile and shard the model, as configured."""
        if self.lora.use:
            check_lora(self.cfg, is_sharded=self.sharding.active)
            add_adapters(self.model, self.lora)
            self.register_stateful("base_model")
        if self.cfg.compile.use:
            self.model.transformer.compile_layers(self.cfg.compile.mode)
        if self.sharding.active:
            check_sharding(self.cfg)
            shard(self.model, self.sharding, self.device)

    def build_optimizer(self) -> None:
        """Build optimizer, learning rate schedule, moving average and loss scaler."""
        cfg = self.cfg
        self.optimizer = get_optimizer(self.model.param_groups(), cfg.optim)
        total_updates = cfg.optim.epochs * len(self.dataloaders["train"])
        self.lr_scheduler = get_lr_scheduler(self.optimizer, cfg.schedule, total_updates)
        self.ema = get_ema(self.model, cfg.optim.ema)
        needs_scaler = self.autocast_dtype is torch.float16 or self.sharding.needs_scaler
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaler)  # type: ignore
        self.optim_step = OptimizerStep(
            self.model,
            self.optimizer,
            scaler=self.scaler,
            lr_scheduler=self.lr_scheduler,
            ema=self.ema,
            max_norm=cfg.optim.max_norm,
            eager_sync=cfg.optim.eager_sync,
            is_sharded=self.sharding.active,
        )
        self.register_stateful("scaler")
        if self.lr_scheduler is not None:
            self.register_stateful("lr_scheduler")

    def log_model_and_data(self) -> None:
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        datasets = {
            split: tp.cast(AudioDataset, dl.dataset) for split, dl in self.dataloaders.items()
        }
        logger.info("Trainable parameters: %.1f M, on %s", parameters / 1e6, self.device)
        logger.info(
            "Files: %s", ", ".join(f"{len(d.meta)} {split}" for split, d in datasets.items())
        )
        padding = padding_warning(
            datasets["train"].meta.durations, self.cfg.dataset.segment_duration
        )
        if padding:
            logger.warning(padding)

    # The step.

    def run_step(self, idx: int, batch: Batch, metrics: dict) -> dict:
        """Compute the loss of a batch in micro-batches and, in training, update the weights."""
        micro_batches = batch.split(self.cfg.optim.accumulate if self.is_training else 1)
        count = len(micro_batches)
        losses = []
        for index, micro_batch in enumerate(micro_batches):
            loss, cross_entropies = self.compute_loss(micro_batch, idx * count + index)
            losses.append(cross_entropies)
            if self.is_training:
                self.optim_step.backward(loss, index, count)
        if self.is_training:
            metrics.update(self.update())
        stacked = torch.stack(losses)  # [micro-batches, 1 + K]
        # NaN is the cross entropy of a codebook without valid position.
        return metrics | loss_metrics(stacked[:, 0].mean(), stacked[:, 1:].nanmean(dim=0))

    def compute_loss(self, batch: Batch, idx: int) -> tuple[Tensor, Tensor]:
        """Compute the loss of micro-batch `idx`.

        Returns:
            The loss of this process, and the cross entropies of the batch over all processes,
            `[1 + K]`: their mean over codebooks, then that of each codebook.
        """
        codes, valid = self.tokenize(batch)  # [B, K, F] long, [B, K, F] bool
        prepared = self.prepare_conditions(batch, idx)  # after dropout, with drawn excerpts

        with self.autocast:
            adjust = pad_across_processes if self.cfg.as_one_process else None
            conditions, output = self.model.encode_and_predict(codes, prepared, adjust)
            excerpt_mask = merge_excerpt_masks(conditions, codes.shape[-1], self.device)  # [B, F]
            loss_mask = valid & output.mask & ~excerpt_mask[:, None]  # [B, K, F]
            counts = sum_over_processes(loss_mask.sum(dim=(0, 2)))  # [K]
            share, shares = codebook_cross_entropy(  # [], [K]
                output.logits, codes, loss_mask, skip_empty=True, counts=counts
            )

        self.count_tokens(codes, loss_mask)
        cross_entropies = sum_over_processes(torch.cat([share.detach()[None], shares.detach()]))
        # Gradients are averaged over processes, but shares are to be summed.
        return share * world_size(), cross_entropies

    @torch.no_grad()
    def tokenize(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode a batch, unless it is pre-encoded.

        Returns:
            Codes `[B, K, F]`, and a mask `[B, K, F]` that is False on padding.

        Raises:
            ConfigError: The tokenizer rescales its input, which the model does not support.
        """
        if batch.codes is not None:
            codes = to_device(batch.codes, self.device)
        else:
            wavs = to_device(tp.cast(Tensor, batch.wavs), self.device)  # [B, C, T]
            codes, scale = self.compression_model.encode(wavs)
            if scale is not None:
                raise ConfigError(
                    "The tokenizer rescales its input, which is not supported. Choose another "
                    "compression_model_checkpoint."
                )
        lengths = torch.tensor(batch.num_samples, dtype=torch.float64)
        frames = (lengths / self.cfg.sample_rate * self.compression_model.frame_rate).ceil()
        valid = torch.arange(codes.shape[-1]) < frames[:, None]  # [B, F]
        valid = to_device(valid, self.device)[:, None].expand(codes.shape)
        if self.cfg.tokens.padding_with_special_token:
            codes = codes.masked_fill(~valid, self.model.special_token_id)
        return codes, valid

    def prepare_conditions(self, batch: Batch, idx: int) -> dict[str, tp.Any]:
        """Draw dropout and excerpts of micro-batch `idx` and prepare its conditions on the CPU."""
        provider = self.model.condition_provider
        attributes = batch.condition_attributes()
        if not self.is_training:
            attributes = [provider.without_short_clips(a) for a in attributes]
        generators = derive_batch_generators(
            attributes,
            ("conditions", self.cfg.seed, self.current_stage, self.epoch, idx),
            sample_rate=self.cfg.sample_rate,
            as_one_process=self.cfg.as_one_process,
        )
        attributes = self.model.drop_conditions(attributes, generators.batch)
        return provider.prepare(attributes, generators if self.is_training else None)

    def update(self) -> dict:
        """Update the weights; returns learning rate and gradient norm."""
        return self.optim_step.step()

    def finish_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """Check that loss and gradient are finite, and add perplexities.

        Raises:
            ConfigError: They are not; a loss scaler skips such gradients itself.
        """
        checked = {"ce": "loss"} | ({} if self.scaler.is_enabled() else {"grad_norm": "gradient"})
        for name, what in checked.items():
            if not math.isfinite(metrics.get(name, 0.0)):
                raise self.divergence_error(f"{what} became {metrics[name]}")
        return add_perplexities(metrics)

    # Stages.

    def valid(self) -> dict:
        """Compute the loss of the validation set, and of the baselines."""
        return self.run_with_baselines(super().valid)

    def evaluate(self) -> dict:
        """Compute the loss of the evaluation set, and of the baselines."""
        return self.run_with_baselines(super().evaluate)

    def run_with_baselines(self, stage: tp.Callable[[], dict]) -> dict:
        """Run a stage with the averaged weights; add the unigram and the uniform cross entropy."""
        self.held_out_counts = self.new_token_counts()
        with self.averaged():
            metrics = stage()
        if self.token_counts.counts.any():  # empty if this run has not trained
            metrics["ce_unigram"] = self.token_counts.cross_entropy(self.held_out_counts)
        return metrics | {"ce_uniform": self.token_counts.uniform}

    def new_token_counts(self) -> TokenCounts:
        return TokenCounts(self.model.num_codebooks, self.model.card, self.device)

    def count_tokens(self, codes: Tensor, mask: Tensor) -> None:
        """Count training tokens in the first epoch, and held-out tokens in other stages."""
        if self.is_training and self.epoch == 1:
            self.token_counts.add(codes, mask)
        elif not self.is_training:
            self.held_out_counts.add(codes, mask)

    def generate_samples(self) -> dict[str, float]:
        """Generate this process's share of the samples, in every supported conditioning mode."""
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
                    self.folder / cfg.path / str(self.logged_epoch),
                    model.sample_rate,
                    self.loggers,
                    tp.cast(dict, OmegaConf.to_container(cfg.audio, resolve=True)),
                ),
                epoch=self.logged_epoch,
                batch_size=loader.batch_size or 1,
                progress=lambda batches: self.progress_bar("generate", batches, 0, len(batches)),
            )

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        return flashy.Formatter({"lr": ".2E", "ppl*": ".1f"})

    # Weights.

    def averaged(self) -> tp.ContextManager:
        """Context in which the EMA, if there is one, replaces the weights."""
        return contextlib.nullcontext() if self.ema is None else self.ema.averaged()

    def weights(self) -> dict[str, Tensor]:
        with self.averaged():
            if self.lora.use:
                return merged_state_dict(self.model)
            return {key: value.clone() for key, value in gather_weights(self.model).items()}

    def generation_model(self) -> LMModel:
        """The model for generation: gathered from its shards, with LoRA merged into the weights."""
        if not self.sharding.active and not self.lora.use:
            return self.model
        state = merged_state_dict(self.model) if self.lora.use else gather_weights(self.model)
        model = self.build_model()
        model.load_state_dict(state)
        return model

    def on_best(self) -> None:
        """Save the best adapters in a file of their own."""
        if self.lora.use and is_rank_zero():
            with self.averaged():
                save_adapter(self.model, self.lora, self.base_model, self.folder / ADAPTER_FILE)

    def set_training(self) -> None:
        """Also freeze the codebooks of a style conditioner that LoRA does not adapt."""
        super().set_training()
        if self.lora.use and not self.lora.style:
            for conditioner in self.model.condition_provider.conditioners.values():
                if isinstance(conditioner, StyleConditioner):
                    conditioner.freeze_statistics()

    def continue_from(self, source: str) -> None:
        """Warm start from the weights of a published model, an experiment or a file."""
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
        logger.info("Weights loaded from %s (continue_from).", source)

    def log_results(self) -> None:
        if not is_rank_zero() or not self.history:
            return
        last = self.history[-1]["valid"]
        logger.info(
            "Validation cross entropy: %.3f nats per token; unigram baseline %.3f, uniform "
            "distribution ln(%d) = %.3f",
            last["ce"],
            last["ce_unigram"],
            self.model.card,
            last["ce_uniform"],
        )
        files = {
            "samples": self.folder / self.cfg.generate.path,
            "checkpoint": self.checkpoints.last,
            "adapters": self.folder / ADAPTER_FILE,
            "history": self.folder / "history.json",
        }
        lines = [
            "Results:",
            *(f"  {name:12} {path}" for name, path in files.items() if path.exists()),
            "Try next:",
            f"  tensorboard --logdir {shlex.quote(str(self.folder))}",
            f"  python -m audiocraft generate --model //sig/{self.xp.sig} --text '…'",
            f"  MusicGen.get_pretrained('//sig/{self.xp.sig}')  # in Python",
            "  the same command with other settings, such as optim.epochs=20",
        ]
        logger.info("\n".join(lines))
