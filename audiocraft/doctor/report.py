"""What there is to look at before a run starts, section by section.

Nothing is trained, written or fetched. What would stop a run, or spoil it, is a problem.
"""

import shutil
import typing as tp
from dataclasses import dataclass, field
from functools import cached_property

import torch
from dora.xp import XP
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
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
    available,
    build,
    count,
    estimate,
    frozen_sizes,
    gigabytes,
    needed_to_build,
    numel,
    parts_of,
    piece_of,
)
from .weights import Progress, Source, progress_of, sources_of

TIGHT = 0.9  # share of the free memory that a run may take
FRAME_RATE = 50.0  # of tokenizers that are not here yet


@dataclass
class Section:
    """What one look has found."""

    title: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A run, and what there is to know about it; each is found out when a section asks."""

    xp: XP
    cfg: DictConfig
    checkpoints: Checkpoints
    device: torch.device
    processes: int

    @cached_property
    def own(self) -> Progress | None:
        """How far the experiment's own checkpoint is."""
        return progress_of(self.checkpoints)

    @cached_property
    def sources(self) -> list[Source]:
        """Where weights come from."""
        return sources_of(self.cfg, self.checkpoints, self.own)

    @cached_property
    def tokenizer(self) -> CompressionModel | None:
        """On the CPU; `None` where it is not on this machine."""
        if self.lacks("tokenizer"):
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
        """Without numbers.

        Raises:
            ConfigError: A file that it is built from is not there.
        """
        missing = [name for name in needed_to_build(self.cfg) if self.lacks(name)]
        if missing:
            raise ConfigError(f"The model cannot be built without: {', '.join(missing)}.")
        return build(self.cfg)

    @cached_property
    def data(self) -> dict[str, DataLoader]:
        """The data of every split."""
        facts = None
        if self.tokenizer is not None:
            facts = describe_tokenizer(self.tokenizer, self.cfg.compression_model_checkpoint)
        return get_audio_datasets(self.cfg, world_size=self.processes, tokenizer=facts)

    def lacks(self, part: str) -> bool:
        """Whether the weights of a part are not on this machine."""
        return any(source.part == part and not source.is_here for source in self.sources)


def look_at_experiment(plan: Plan) -> Section:
    """Signature, folder, and whether a run would go on."""
    section = Section("Experiment")
    first, *rest = experiment_summary(plan.xp)
    section.lines = [first.removeprefix("Experiment "), *(line.strip() for line in rest)]
    own, epochs = plan.own, plan.cfg.optim.epochs
    if own is None:
        section.lines.append(f"new: it starts with epoch 1 of {epochs}")
    elif own.epochs >= epochs:
        section.lines.append(f"done: all {epochs} epochs")
    else:
        section.lines.append(f"goes on after {own} of {epochs}")
    if OmegaConf.select(plan.cfg, "cache.write"):
        section.lines.append("cache.write=true: it encodes its data sets, and trains nothing")
    began = initial_settings(plan.checkpoints)
    changed = (
        changed_settings(began, to_settings(plan.cfg), plan.xp.dora) if began is not None else []
    )
    if changed:
        section.lines += changed_settings_warning(changed).splitlines()
    try:
        check_settings(plan.cfg)
    except ConfigError as error:
        section.problems.append(str(error))
    try:
        check_output_folder(plan.xp.dora.dir, make=False)
        existing = next(p for p in (plan.xp.dora.dir, *plan.xp.dora.dir.parents) if p.exists())
        free = gigabytes(shutil.disk_usage(existing).free)
        section.lines.append(f"room for outputs: {free}")
    except ConfigError as error:
        section.problems.append(str(error))
    return section


def look_at_weights(plan: Plan) -> Section:
    """Where each set of weights comes from, and why."""
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


def look_at_parameters(plan: Plan) -> Section:
    """How many parameters each part has, and which of them learn."""
    section = Section("Parameters")
    frozen = frozen_sizes(plan.cfg, plan.model, plan.tokenizer)
    table = [("", "trained", "frozen")]
    for name, module in parts_of(plan.model).items():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        table.append((name, count(trained), count(numel(module) - trained)))
    for name, size in frozen.items():
        table.append((name, count(0), "?" if size is None else count(size)))
    section.lines = [f"{name:32}{trained:>10}{frozen:>10}" for name, trained, frozen in table]
    return section


def look_at_memory(plan: Plan) -> Section:
    """What a process takes, by formula, against what is there."""
    section = Section(f"Memory of each process (of {plan.processes}), estimated")
    frame_rate = FRAME_RATE if plan.tokenizer is None else plan.tokenizer.frame_rate
    piece = piece_of(plan.model, plan.cfg, frame_rate, plan.processes)
    items = estimate(plan.model, plan.cfg, piece, plan.processes)
    lines = [(item.name, item.size, item.formula) for item in items]
    frozen = sum(s or 0 for s in frozen_sizes(plan.cfg, plan.model, plan.tokenizer).values())
    lines.append(("frozen networks", 4 * frozen, f"4 B * {count(frozen)}"))
    total = sum(size for _, size, _ in lines)
    section.lines = [f"{name:16}{gigabytes(size):>9}  = {text}" for name, size, text in lines]
    free, there = available(plan.device)
    needed = total if plan.device.type != "cpu" else total * plan.processes
    section.lines.append(f"{'in all':16}{gigabytes(total):>9}")
    section.lines.append(f"there, on {plan.device}: {gigabytes(free)} free of {gigabytes(there)}")
    if needed > TIGHT * free:
        section.problems.append(
            f"Training takes about {gigabytes(needed)} but {plan.device} has {gigabytes(free)} "
            "free. Raise optim.accumulate, set transformer_lm.checkpointing=torch, choose a preset "
            "such as preset=24gb, or shard with fsdp.use=true."
        )
    return section


def look_at_data(plan: Plan) -> Section:
    """What each split holds."""
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


def look_at_steps(plan: Plan) -> Section:
    """How much is learnt from, and how often the weights move."""
    section = Section("Steps")
    cfg, updates = plan.cfg, len(plan.data["train"])
    batch, pieces = cfg.dataset.batch_size, cfg.optim.accumulate
    check_accumulation(pieces, batch, plan.processes)
    seconds = cfg.dataset.segment_duration
    batch_line = f"a batch: {batch} clips" + (f" of {seconds:g} s" if seconds else ", whole files")
    if plan.processes > 1 or pieces > 1:
        at_once = batch // plan.processes // pieces
        batch_line += f"; each of {plan.processes} processes computes {at_once} at a time"
    section.lines = [
        batch_line,
        f"an epoch: {updates} updates, {updates * batch} clips"
        + (f", {updates * batch * seconds / 3600:.2f} h" if seconds else ""),
        f"the run: {cfg.optim.epochs} epochs, {cfg.optim.epochs * updates} updates",
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
            f"{cfg.optim.epochs * updates}: it never reaches its learning rate. Lower the warm-up."
        )
    return section


def look_at_device(plan: Plan) -> Section:
    """Whether the device computes what the CPU does."""
    section = Section(f"Device: {plan.device}")
    if plan.device.type == "cpu":
        section.lines = [f"{torch.get_num_threads()} threads; it is what others are compared with"]
        return section
    if plan.device.type == "cuda":
        section.lines.append(torch.cuda.get_device_name(plan.device))
    dtype = resolve_dtype(plan.cfg.autocast_dtype) if plan.cfg.autocast else torch.float32
    for verdict in check_device(plan.device, dtype):
        section.lines.append(f"{verdict.part}: {verdict.message}")
        if not verdict.is_sound:
            section.problems.append(
                f"{plan.device} computes garbage, compared with the CPU: the {verdict.part} "
                f"{verdict.message}. Do not train on it: update its driver and PyTorch, or set "
                "device=cpu."
            )
    return section


SECTIONS: dict[str, tp.Callable[[Plan], Section]] = {
    "Experiment": look_at_experiment,
    "Weights": look_at_weights,
    "Parameters": look_at_parameters,
    "Memory": look_at_memory,
    "Data": look_at_data,
    "Steps": look_at_steps,
    "Device": look_at_device,
}


def examine(plan: Plan) -> tp.Iterator[Section]:
    """All sections; one that fails says why, and the others go on."""
    told_already: set[str] = set()
    for title, look in SECTIONS.items():
        try:
            yield look(plan)
        except (ValueError, OmegaConfBaseException) as error:  # ours are ValueErrors
            problem = str(error)
            if problem in told_already:
                yield Section(title, ["unknown, for a reason given above"])
            else:
                yield Section(title, problems=[problem])
            told_already.add(problem)
