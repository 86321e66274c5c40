"""Memory estimate of a training process, from the configuration alone.

Weights, gradients and optimizer state follow from the number of parameters; activations from what
each layer saves for the backward pass, as measured by a test. Frozen networks run before the model,
in memory that is free again afterwards, so only their weights count.
"""

import math
import os
import typing as tp
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from ..models import builders, loaders
from ..models.lm import LMModel
from ..models.lora import Lora, add_adapters
from ..modules.conditioners import StyleConditioner, T5Conditioner, build_hubert
from ..modules.transformer import TransformerSpec
from ..solvers.sharding import Sharding
from ..utils.device import resolve_dtype

FLOAT32 = 4  # bytes
OPTIMIZER = {"adam": 8, "adamw": 8, "adamw8bit": 2, "dadam": 12}  # bytes per trained parameter
TEXT_STEPS = 64  # tokens of a long description, where text is part of the sequence
LOGIT_COPIES = 4  # logits, aligned to frames, their logarithms, their gradients
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# Parameters of the encoders.
T5_SIZES = {"t5-small": 35_330_816, "t5-base": 109_628_544, "t5-large": 334_939_648}


class MemoryItem(tp.NamedTuple):
    """One part of the memory of a process."""

    name: str
    size: float  # bytes
    formula: str


class MicroBatch(tp.NamedTuple):
    """Size of what a process computes at once."""

    clips: int
    frames: int  # of each clip
    steps: int  # of each sequence: frames, delays of the pattern, prefix


def required_weights(cfg: DictConfig) -> list[str]:
    """Parts whose weights are read when the model is built."""
    nodes = (cfg.get("conditioners") or {}).items()
    extractors = [
        f"{name}: feature extractor"
        for name, node in nodes
        if node.model == "style" and node.style.model_name == "encodec"
    ]
    return extractors + [str(n) for n, node in nodes if node.model == "t5" and node.t5.finetune]


def build(cfg: DictConfig) -> LMModel:
    """Build the language model of a run on the meta device."""
    with torch.device("meta"):
        load_codec = partial(loaders.load_compression_model, device="meta")
        model = builders.get_lm_model(cfg, load_codec)
        if cfg.lora.use:
            add_adapters(model, Lora(**cfg.lora))
    return model


def model_parts(model: LMModel) -> dict[str, nn.Module]:
    """Modules of a language model by their role."""
    heads = nn.ModuleList([*model.linears, *([] if model.out_norm is None else [model.out_norm])])
    named = {
        "embeddings of codes": model.emb,
        "transformer": model.transformer,
        "predictions": heads,
    }
    conditioners = model.condition_provider.conditioners.items()
    return named | {f"condition {name}": conditioner for name, conditioner in conditioners}


def frozen_sizes(
    cfg: DictConfig, model: LMModel, tokenizer: nn.Module | None
) -> dict[str, int | None]:
    """Number of values in each frozen network; `None` where it is unknown.

    Args:
        cfg: Resolved configuration of the run.
        model: Its language model.
        tokenizer: Its tokenizer; `None` if that is not on this machine.
    """
    sizes: dict[str, int | None] = {
        "tokenizer": None if tokenizer is None else num_values(tokenizer)
    }
    for name, conditioner in model.condition_provider.conditioners.items():
        if isinstance(conditioner, T5Conditioner) and not conditioner.finetune:
            sizes[f"{name}: T5"] = T5_SIZES.get(conditioner.name.rstrip("/").rpartition("/")[2])
        elif isinstance(conditioner, StyleConditioner):
            kind = cfg.conditioners[name].style.model_name
            sizes[f"{name}: {kind}"] = FEATURE_EXTRACTOR_SIZES[kind](conditioner)
    return sizes


def num_values(network: nn.Module) -> int:
    """Number of parameters and buffer values of a network."""
    return num_parameters(network) + sum(buffer.numel() for buffer in network.buffers())


def num_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def _num_mert_values(conditioner: StyleConditioner) -> int:
    with torch.device("meta"):
        return num_parameters(build_hubert())


FEATURE_EXTRACTOR_SIZES: dict[str, tp.Callable[[tp.Any], int]] = {
    "mert": _num_mert_values,
    "musicnn": lambda conditioner: num_values(conditioner.feature_extractor.network.module),
    "encodec": lambda conditioner: num_values(conditioner.feature_extractor.codec.module),
}


def estimate_memory(
    model: LMModel, cfg: DictConfig, micro_batch: MicroBatch, processes: int = 1
) -> list[MemoryItem]:
    """Estimate the memory of one process on its device, without frozen networks.

    Args:
        model: The language model, on any device.
        cfg: Resolved configuration of the run.
        micro_batch: Size of what is computed at once.
        processes: Number of processes that train together.
    """
    sharding = Sharding(**cfg.fsdp)
    shards = sharding.use and sharding.sharding_strategy != "no_shard" and processes > 1
    share, over = (processes, f" / {processes} processes") if shards else (1, "")
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    state = total + sum(b.numel() for b in model.buffers())
    optimizer = OPTIMIZER.get(cfg.optim.optimizer, OPTIMIZER["adamw"])
    half = _compute_bytes(cfg, sharding, shards)
    items = [
        MemoryItem("weights", FLOAT32 * total / share, f"4 B * {format_count(total)}{over}"),
        MemoryItem(
            "gradients", FLOAT32 * trained / share, f"4 B * {format_count(trained)} trained{over}"
        ),
        MemoryItem(
            "optimizer",
            optimizer * trained / share,
            f"{optimizer} B * {format_count(trained)}{over}",
        ),
    ]
    if cfg.optim.ema.use and cfg.optim.ema.device in ("auto", cfg.device):
        items.append(
            MemoryItem("average", FLOAT32 * state / share, f"4 B * {format_count(state)}{over}")
        )
    if shards and sharding.cpu_offload and cfg.device != "cpu":
        items = []  # all of it is in the memory of the CPU
    if shards:
        gathered = total
        if sharding.sharding_strategy == "full_shard" and sharding.per_block:
            gathered = 2 * max(num_parameters(layer) for layer in model.transformer.layers)
        items.append(
            MemoryItem("gathered", half * gathered, f"{half} B * {format_count(gathered)}")
        )
    elif half < FLOAT32:
        items.append(
            MemoryItem("half copies", half * trained, f"{half} B * {format_count(trained)}")
        )
    return [*items, *_activations(model, micro_batch, half, FLOAT32 if not shards else half)]


def _compute_bytes(cfg: DictConfig, sharding: Sharding, shards: bool) -> int:
    if shards:
        return resolve_dtype(sharding.param_dtype).itemsize
    return resolve_dtype(cfg.autocast_dtype).itemsize if cfg.autocast else FLOAT32


def _activations(
    model: LMModel, micro_batch: MicroBatch, half: int, norms: int
) -> list[MemoryItem]:
    """Estimate what the layers save for the backward pass.

    Args:
        model: The language model.
        micro_batch: Size of what is computed at once.
        half: Bytes of a value in linear layers and attention.
        norms: Bytes of a value between the blocks, which norms save.
    """
    spec = model.transformer.spec
    per_step = saved_bytes_per_step(spec, half, norms)
    kept = micro_batch.clips * micro_batch.steps * per_step
    sequences = f"{micro_batch.clips} clips * {micro_batch.steps} steps"
    formula = f"{spec.num_layers} layers * {sequences} * {saved_bytes_formula(spec, half, norms)}"
    size = spec.num_layers * kept
    if spec.checkpointing != "none":
        between = micro_batch.clips * micro_batch.steps * spec.d_model * norms
        size = spec.num_layers * between + kept
        formula = f"{formula}, of one layer; of others {norms} D"
    for conditioner in model.condition_provider.conditioners.values():
        if isinstance(conditioner, StyleConditioner) and conditioner.transformer is not None:
            style = conditioner.transformer.spec
            style_frames = num_style_frames(conditioner)
            size += (
                style.num_layers
                * micro_batch.clips
                * style_frames
                * saved_bytes_per_step(style, half, norms)
            )
            formula += f"; and {style.num_layers} of the style conditioner"
    logits = micro_batch.clips * model.num_codebooks * micro_batch.frames * model.card
    return [
        MemoryItem("activations", size, formula),
        MemoryItem(
            "logits",
            LOGIT_COPIES * FLOAT32 * logits,
            f"{LOGIT_COPIES} * 4 B * {micro_batch.clips} clips * {model.num_codebooks} codebooks * "
            f"{micro_batch.frames} frames * {model.card}",
        ),
    ]


def saved_bytes_per_step(spec: TransformerSpec, half: int, norms: int) -> float:
    """Bytes that one layer saves per sequence step.

    Two norms save their inputs. Attention saves its input, queries, keys, values and output (the
    input of the next projection), the feed-forward block its input and twice its hidden layer.
    """
    hidden = spec.dim_feedforward / spec.d_model
    per_width = 2 * norms + (6 + 2 * hidden) * half
    if spec.cross_attention:
        per_width += norms + 3 * half
    return spec.d_model * per_width


def saved_bytes_formula(spec: TransformerSpec, half: int, norms: int) -> str:
    """`saved_bytes_per_step` as text."""
    cross = f" + {norms} + 3 * {half}" if spec.cross_attention else ""
    hidden = spec.dim_feedforward / spec.d_model
    return f"({2 * norms} + (6 + 2 * {hidden:g}) * {half}{cross}) B * width {spec.d_model}"


def get_micro_batch(
    model: LMModel, cfg: DictConfig, frame_rate: float, processes: int = 1
) -> MicroBatch:
    """Size of what a process of a run computes at once.

    Args:
        model: The language model.
        cfg: Resolved configuration of the run.
        frame_rate: Frames per second of the tokenizer.
        processes: Number of processes that train together.
    """
    clips = max(1, cfg.dataset.batch_size // processes // cfg.optim.accumulate)
    frames = math.ceil((cfg.dataset.segment_duration or 30.0) * frame_rate)
    codes = torch.zeros(1, model.num_codebooks, frames, dtype=torch.long)
    pattern = model.pattern_provider.get_pattern(frames)
    sequence = pattern.build_pattern_sequence(codes, model.special_token_id, True)
    steps = sequence.values.shape[-1]
    conditioners = model.condition_provider.conditioners
    for name in model.fuser.names("prepend"):
        conditioner = conditioners[name]
        if isinstance(conditioner, StyleConditioner):
            steps += math.ceil(num_style_frames(conditioner) / conditioner.ds_factor)
        else:
            steps += TEXT_STEPS
    return MicroBatch(clips, frames, steps)


def checkpoint_bytes(model: LMModel, cfg: DictConfig) -> float:
    """Estimate the size of a checkpoint: weights, optimizer state and averaged weights."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    saved = trained if cfg.lora.use else num_values(model)
    copies = 2 if cfg.optim.ema.use else 1
    optimizer = OPTIMIZER.get(cfg.optim.optimizer, OPTIMIZER["adamw"])
    return copies * FLOAT32 * saved + optimizer * trained


def num_style_frames(conditioner: StyleConditioner) -> int:
    """Number of frames of the longest style excerpt."""
    longest = conditioner.varying_lengths[1]
    return conditioner.feature_extractor.num_frames(
        int(longest * conditioner.feature_extractor.sample_rate)
    )


def available_memory(device: torch.device) -> tuple[float, float]:
    """Free and total memory of a device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return total - torch.mps.current_allocated_memory(), total
    return host_memory()


def host_memory() -> tuple[float, float]:
    """Available and total memory of this machine or container, in bytes."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    free = total
    if MEMINFO.is_file():
        lines = dict(
            line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines()
        )
        free = 1024 * float(lines["MemAvailable"].split()[0])
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text(encoding="utf-8").strip().isdigit():
        most = float(limit.read_text(encoding="utf-8"))
        total, free = min(total, most), min(free, most - float(used.read_text(encoding="utf-8")))
    return free, total


def format_count(number: float) -> str:
    """Format a number of parameters, such as `1.4 G` or `20.1 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"


def format_bytes(size: float) -> str:
    """Format a size in bytes, such as `5.6 GB` or `17 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
