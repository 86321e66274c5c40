"""Preflight report of a training run: one section per topic, each with lines and problems.

Nothing is trained, written or downloaded. A problem is what would end a run or make it useless.
"""

import logging
import shutil
import typing as tp
from dataclasses import dataclass, field
from functools import cached_property

import torch
from dora.xp import XP
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from ..data.loaders import get_audio_datasets, get_source
from ..data.tokens.format import is_token_folder
from ..errors import ConfigError
from ..models import builders, loaders
from ..models.codecs.base import CompressionModel
from ..models.codecs.chunked_encoding import describe_tokenizer
from ..models.lm import LMModel
from ..optim.builders import get_lr_scheduler, get_optimizer
from ..solvers.checkpoint import Checkpoints
from ..solvers.experiment import (
    changed_settings,
    changed_settings_warning,
    check_output_folder,
    experiment_summary,
    initial_settings,
    to_settings,
)
from ..solvers.optim_step import check_accumulation
from ..solvers.sharding import check_sharding
from ..solvers.validation import check_settings, padding_warning
from ..solvers.warm_start import check_lora
from ..utils.device import resolve_dtype
from .device_check import check_device
from .memory import (
    available_memory,
    build,
    checkpoint_bytes,
    estimate_memory,
    format_bytes,
    format_count,
    frozen_sizes,
    get_micro_batch,
    model_parts,
    num_parameters,
    required_weights,
)
from .weights import (
    CheckpointProgress,
    WeightSource,
    get_checkpoint_progress,
    get_weight_sources,
)

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.9  # share of the free memory that a run may use
FRAME_RATE = 50.0  # Hz, assumed where the tokenizer is not on this machine


@dataclass
class Section:
    """One section of the report."""

    title: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts: its configuration, and what is built from it on first use."""

    xp: XP
    cfg: DictConfig
    checkpoints: Checkpoints
    device: torch.device
    processes: int

    @cached_property
    def progress(self) -> CheckpointProgress | None:
        """Epochs and updates of the experiment's own checkpoint."""
        return get_checkpoint_progress(self.checkpoints)

    @cached_property
    def sources(self) -> list[WeightSource]:
        """Origin of each set of weights."""
        return get_weight_sources(self.cfg, self.checkpoints, self.progress)

    @cached_property
    def tokenizer(self) -> CompressionModel | None:
        """The tokenizer on the CPU; `None` where its weights are not on this machine."""
        if self.is_missing("tokenizer"):
            return None
        tokenizer = loaders.load_compression_model(
            self.cfg.compression_model_checkpoint,
            num_codebooks=self.cfg.compression_model_n_q,
            interleave=self.cfg.interleave_stereo_codebooks,
        )
        builders.check_tokenizer_matches(self.cfg, tokenizer)
        return tokenizer

    @cached_property
    def model(self) -> LMModel:
        """The language model on the meta device.

        Raises:
            ConfigError: Weights that its construction reads are not on this machine.
        """
        missing = [name for name in required_weights(self.cfg) if self.is_missing(name)]
        if missing:
            raise ConfigError(f"The model cannot be built without: {', '.join(missing)}.")
        return build(self.cfg)

    @cached_property
    def data(self) -> dict[str, DataLoader]:
        """Data loader of each split."""
        spec = None
        if self.tokenizer is not None:
            spec = describe_tokenizer(self.tokenizer, self.cfg.compression_model_checkpoint)
        return get_audio_datasets(self.cfg, world_size=self.processes, tokenizer=spec)

    def is_missing(self, part: str) -> bool:
        """Whether the weights of a part are not on this machine."""
        return any(source.part == part and not source.is_here for source in self.sources)


def report_experiment(plan: RunPlan) -> Section:
    """Signature, folder, progress and changed settings of the experiment."""
    section = Section("Experiment")
    first, *rest = experiment_summary(plan.xp)
    section.lines = [first.removeprefix("Experiment "), *(line.strip() for line in rest)]
    progress, epochs = plan.progress, plan.cfg.optim.epochs
    if progress is None:
        section.lines.append(f"new: starts with epoch 1 of {epochs}")
    elif progress.epochs >= epochs:
        section.lines.append(f"done: all {epochs} epochs")
    else:
        section.lines.append(f"resumes after {progress} of {epochs}")
    if OmegaConf.select(plan.cfg, "cache.write"):
        section.lines.append("cache.write=true: encodes the data sets, trains nothing")
    initial = initial_settings(plan.checkpoints)
    if initial is not None:
        changed = changed_settings(initial, to_settings(plan.cfg), plan.xp.dora)
        section.lines += changed_settings_warning(changed).splitlines() if changed else []
    return section


def report_outputs(plan: RunPlan) -> Section:
    """Free disk space of the output folder against the size of a checkpoint."""
    section = Section("Outputs")
    outputs = plan.xp.dora.dir
    check_output_folder(outputs, make=False)
    existing = next(path for path in (outputs, *outputs.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    section.lines.append(f"free disk space for outputs: {format_bytes(free)}")
    size = checkpoint_bytes(plan.model, plan.cfg)
    section.lines.append(f"a checkpoint: about {format_bytes(size)}")
    if free < 2 * size:  # the previous one stays until the next is complete
        section.problems.append(
            f"{existing} has {format_bytes(free)} free but two checkpoints of about "
            f"{format_bytes(size)} must fit. Free some space or set AUDIOCRAFT_DORA_DIR to "
            "another folder."
        )
    return section


def report_weights(plan: RunPlan) -> Section:
    """Origin of each set of weights, and the setting that selects it."""
    section = Section("Weights")
    for source in plan.sources:
        section.lines.append(f"{source.part}: {source.where}")
        section.lines.append(f"  because of {source.why}")
        if source.problem:
            section.problems.append(f"{source.part}: {source.problem}")
    is_sharded = plan.cfg.fsdp.use and plan.processes > 1
    if plan.cfg.lora.use:
        check_lora(plan.cfg, is_sharded)
    if is_sharded:
        check_sharding(plan.cfg)
    return section


def report_parameters(plan: RunPlan) -> Section:
    """Number of trained and frozen parameters of each part."""
    section = Section("Parameters")
    table = [("", "trained", "frozen")]
    for name, module in model_parts(plan.model).items():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = num_parameters(module) - trained
        table.append((name, format_count(trained), format_count(frozen)))
    for name, size in frozen_sizes(plan.cfg, plan.model, plan.tokenizer).items():
        table.append((name, format_count(0), "?" if size is None else format_count(size)))
    section.lines = [f"{name:32}{trained:>10}{frozen:>10}" for name, trained, frozen in table]
    return section


def report_memory(plan: RunPlan) -> Section:
    """Estimated memory of a process against the memory of the device."""
    section = Section(f"Memory of each process (of {plan.processes}), estimated")
    frame_rate = FRAME_RATE if plan.tokenizer is None else plan.tokenizer.frame_rate
    micro_batch = get_micro_batch(plan.model, plan.cfg, frame_rate, plan.processes)
    items = estimate_memory(plan.model, plan.cfg, micro_batch, plan.processes)
    lines = [(item.name, item.size, item.formula) for item in items]
    frozen = sum(s or 0 for s in frozen_sizes(plan.cfg, plan.model, plan.tokenizer).values())
    lines.append(("frozen networks", 4 * frozen, f"4 B * {format_count(frozen)}"))
    total = sum(size for _, size, _ in lines)
    section.lines = [f"{name:16}{format_bytes(size):>9}  = {text}" for name, size, text in lines]
    section.lines.append(f"{'total':16}{format_bytes(total):>9}")
    free, capacity = available_memory(plan.device)
    section.lines.append(f"{plan.device}: {format_bytes(free)} free of {format_bytes(capacity)}")
    needed = total if plan.device.type != "cpu" else total * plan.processes
    if needed > MEMORY_SHARE * free:
        section.problems.append(
            f"Training needs about {format_bytes(needed)} but {plan.device} has "
            f"{format_bytes(free)} free. Raise optim.accumulate, set "
            "transformer_lm.checkpointing=torch, choose a preset such as preset=24gb, or shard "
            "with fsdp.use=true."
        )
    return section


def report_data(plan: RunPlan) -> Section:
    """Files, hours and batches of each split."""
    section = Section("Data")
    for split, loader in plan.data.items():
        dataset = tp.cast(tp.Any, loader.dataset)
        durations = dataset.meta.durations
        source = get_source(plan.cfg, split)
        kind = ", as tokens" if is_token_folder(source) else ""
        section.lines.append(
            f"{split}: {len(durations)} files, {durations.sum() / 3600:.2f} h, from "
            f"{durations.min():.1f} to {durations.max():.1f} s ({source}{kind})"
        )
        if split != "train":
            section.lines.append(f"  {len(dataset)} clips in {len(loader)} batches")
        elif padding := padding_warning(durations, plan.cfg.dataset.segment_duration):
            section.problems.append(padding)
    return section


def report_steps(plan: RunPlan) -> Section:
    """Batch, epoch and learning rate."""
    section = Section("Steps")
    cfg, updates = plan.cfg, len(plan.data["train"])
    batch, micro_batches = cfg.dataset.batch_size, cfg.optim.accumulate
    check_accumulation(micro_batches, batch, plan.processes)
    seconds = cfg.dataset.segment_duration
    batch_line = f"batch: {batch} clips" + (f" of {seconds:g} s" if seconds else ", whole files")
    if plan.processes > 1 or micro_batches > 1:
        at_once = batch // plan.processes // micro_batches
        batch_line += f"; micro-batch of each of {plan.processes} processes: {at_once}"
    section.lines = [
        batch_line,
        f"epoch: {updates} updates, {updates * batch} clips"
        + (f", {updates * batch * seconds / 3600:.2f} h" if seconds else ""),
        f"run: {cfg.optim.epochs} epochs, {cfg.optim.epochs * updates} updates",
    ]
    optimizer = get_optimizer(plan.model.param_groups(), cfg.optim)
    get_lr_scheduler(optimizer, cfg.schedule, cfg.optim.epochs * updates)
    name = cfg.schedule.lr_scheduler
    warmup = (cfg.schedule[name].get("warmup") or 0) if name else 0
    emb_lr = cfg.transformer_lm.get("emb_lr")
    of_embeddings = "" if emb_lr is None else f" (of the embeddings {emb_lr:g})"
    section.lines.append(
        f"learning rate: {cfg.optim.lr:g}{of_embeddings}, {name or 'constant'}"
        + (f", after {warmup} updates of warm-up" if warmup else "")
    )
    if warmup >= cfg.optim.epochs * updates:
        section.problems.append(
            f"schedule.{name}.warmup is {warmup} updates but the run has "
            f"{cfg.optim.epochs * updates}, so that optim.lr is never reached. Lower the warm-up."
        )
    return section


def report_device(plan: RunPlan) -> Section:
    """Agreement of the device's results with those of the CPU."""
    section = Section(f"Device: {plan.device}")
    if plan.device.type == "cpu":
        section.lines = [f"{torch.get_num_threads()} threads"]
        return section
    if plan.device.type == "cuda":
        section.lines.append(torch.cuda.get_device_name(plan.device))
    dtype = resolve_dtype(plan.cfg.autocast_dtype) if plan.cfg.autocast else torch.float32
    for result in check_device(plan.device, dtype):
        section.lines.append(f"{result.part}: {result.message}")
        if not result.is_correct:
            section.problems.append(
                f"{plan.device} gives wrong results, compared with the CPU: the {result.part} "
                f"{result.message}. Do not train on it: update its driver and PyTorch, or set "
                "device=cpu."
            )
    return section


SECTIONS: dict[str, tp.Callable[[RunPlan], Section]] = {
    "Experiment": report_experiment,
    "Weights": report_weights,
    "Parameters": report_parameters,
    "Memory": report_memory,
    "Data": report_data,
    "Steps": report_steps,
    "Outputs": report_outputs,
    "Device": report_device,
}


def report_settings(plan: RunPlan) -> Section:
    """Settings that are refused before anything is built from them."""
    section = Section("Settings")
    try:
        check_settings(plan.cfg)
    except ConfigError as error:
        section.problems.append(str(error))
    return section


def build_report(plan: RunPlan) -> tp.Iterator[Section]:
    """Yield all sections; one that fails has the reason as its problem.

    Settings are checked first, and are a section only if one of them is refused.
    """
    settings = report_settings(plan)
    if settings.problems:
        yield settings
    seen = set(settings.problems)
    for title, report in SECTIONS.items():
        try:
            yield report(plan)
        except Exception as error:  # no section may end the report
            logger.debug("Section %s failed.", title, exc_info=True)
            problem = describe_error(error)
            if problem in seen:
                yield Section(title, ["unknown, for a reason given above"])
            elif seen and not isinstance(error, ValueError):
                yield Section(title, [f"unknown ({problem})"])
            else:
                yield Section(title, problems=[problem])
            seen.add(problem)


def describe_error(error: Exception) -> str:
    """The message of an error; with its class where that is not one of ours."""
    if isinstance(error, ValueError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
