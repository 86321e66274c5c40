"""How much memory a training process takes, estimated before anything starts.

Sizes follow from what PyTorch keeps: weights, gradients and the optimizer's averages from the
number of parameters; activations from what the layers save for the backward pass, which is counted
below as a test has measured it. Frozen networks compute before the model does, in memory that is
then free again, so only their weights count.
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

# Parameters of the encoders.
T5_SIZES = {"t5-small": 35_330_816, "t5-base": 109_628_544, "t5-large": 334_939_648}


def needed_to_build(cfg: DictConfig) -> list[str]:
    """Parts whose weights are read as soon as the model is built."""
    nodes = (cfg.get("conditioners") or {}).items()
    extractors = [
        f"{name}: feature extractor"
        for name, node in nodes
        if node.model == "style" and node.style.model_name == "encodec"
    ]
    return extractors + [str(n) for n, node in nodes if node.model == "t5" and node.t5.finetune]


def build(cfg: DictConfig) -> LMModel:
    """The language model of a run, without numbers."""
    with torch.device("meta"):
        load_codec = partial(loaders.load_compression_model, device="meta")
        model = builders.get_lm_model(cfg, load_codec)
        if cfg.lora.use:
            add_adapters(model, Lora(**cfg.lora))
    return model


def parts_of(model: LMModel) -> dict[str, nn.Module]:
    """The parts of a language model, by what they do."""
    ends = nn.ModuleList([*model.linears, *([] if model.out_norm is None else [model.out_norm])])
    named = {
        "embeddings of codes": model.emb,
        "transformer": model.transformer,
        "predictions": ends,
    }
    conditioners = model.condition_provider.conditioners.items()
    return named | {f"condition {name}": conditioner for name, conditioner in conditioners}


def frozen_sizes(
    cfg: DictConfig, model: LMModel, tokenizer: nn.Module | None
) -> dict[str, int | None]:
    """Numbers in the networks that are used and never trained; `None` where nobody can say.

    Args:
        cfg: Resolved configuration of the run.
        model: Its language model.
        tokenizer: Its tokenizer; `None` where that is not on this machine.
    """
    sizes: dict[str, int | None] = {"tokenizer": None if tokenizer is None else size_of(tokenizer)}
    for name, conditioner in model.condition_provider.conditioners.items():
        if isinstance(conditioner, T5Conditioner) and not conditioner.finetune:
            sizes[f"{name}: T5"] = T5_SIZES.get(conditioner.name.rstrip("/").rpartition("/")[2])
        elif isinstance(conditioner, StyleConditioner):
            kind = cfg.conditioners[name].style.model_name
            sizes[f"{name}: {kind}"] = LISTENER_SIZES[kind](conditioner)
    return sizes


def size_of(network: nn.Module) -> int:
    """Numbers in a network, those included that are no parameters."""
    return numel(network) + sum(buffer.numel() for buffer in network.buffers())


def _size_of_mert(conditioner: StyleConditioner) -> int:
    with torch.device("meta"):
        return numel(build_hubert())


LISTENER_SIZES: dict[str, tp.Callable[[tp.Any], int]] = {
    "mert": _size_of_mert,
    "musicnn": lambda conditioner: size_of(conditioner.feature_extractor.network.module),
    "encodec": lambda conditioner: size_of(conditioner.feature_extractor.codec.module),
}

FLOAT32 = 4  # bytes
OPTIMIZER = {"adam": 8, "adamw": 8, "adamw8bit": 2, "dadam": 12}  # bytes per weight that learns
TEXT_STEPS = 64  # tokens of a long description, where text is part of the sequence
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
LOGIT_COPIES = 4  # as they are, on the grid of frames, their logarithms, their gradients


class Item(tp.NamedTuple):
    """One part of the memory of a process."""

    name: str
    size: float  # bytes
    formula: str


class Piece(tp.NamedTuple):
    """What a process computes at once."""

    clips: int
    frames: int  # of each clip
    steps: int  # of each sequence: frames, the pattern's delays, the prefix


def estimate(model: LMModel, cfg: DictConfig, piece: Piece, processes: int = 1) -> list[Item]:
    """The parts of the memory of one process on its device, without frozen networks.

    Args:
        model: The language model; on the meta device it takes no memory itself.
        cfg: Resolved configuration of the run.
        piece: What is computed at once.
        processes: How many processes train together.
    """
    sharding = Sharding(**cfg.fsdp)
    shards = sharding.use and sharding.sharding_strategy != "no_shard" and processes > 1
    share, over = (processes, f" / {processes} processes") if shards else (1, "")
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    state = total + sum(b.numel() for b in model.buffers())
    optimizer = OPTIMIZER.get(cfg.optim.optimizer, OPTIMIZER["adamw"])
    half = _bytes_of_computation(cfg, sharding, shards)
    items = [
        Item("weights", FLOAT32 * total / share, f"4 B * {count(total)}{over}"),
        Item("gradients", FLOAT32 * trained / share, f"4 B * {count(trained)} that learn{over}"),
        Item("optimizer", optimizer * trained / share, f"{optimizer} B * {count(trained)}{over}"),
    ]
    if cfg.optim.ema.use and cfg.optim.ema.device in ("auto", cfg.device):
        items.append(Item("average", FLOAT32 * state / share, f"4 B * {count(state)}{over}"))
    if shards and sharding.cpu_offload and cfg.device != "cpu":
        items = []  # all of it waits in the memory of the CPU
    if shards:
        gathered = total
        if sharding.sharding_strategy == "full_shard" and sharding.per_block:
            gathered = 2 * max(numel(layer) for layer in model.transformer.layers)
        items.append(Item("gathered", half * gathered, f"{half} B * {count(gathered)}"))
    elif half < FLOAT32:
        items.append(Item("half copies", half * trained, f"{half} B * {count(trained)}"))
    return [*items, *_activations(model, piece, half, FLOAT32 if not shards else half)]


def _bytes_of_computation(cfg: DictConfig, sharding: Sharding, shards: bool) -> int:
    if shards:
        return resolve_dtype(sharding.param_dtype).itemsize
    return resolve_dtype(cfg.autocast_dtype).itemsize if cfg.autocast else FLOAT32


def _activations(model: LMModel, piece: Piece, half: int, norms: int) -> list[Item]:
    """What the layers keep for the backward pass.

    Args:
        model: The language model.
        piece: What is computed at once.
        half: Bytes of a number in linear layers and attention.
        norms: Bytes of a number between the blocks, which norms keep.
    """
    spec = model.transformer.spec
    per_step = kept_per_step(spec, half, norms)
    kept = piece.clips * piece.steps * per_step
    where = f"{piece.clips} clips * {piece.steps} steps"
    formula = f"{spec.num_layers} layers * {where} * {kept_formula(spec, half, norms)}"
    size = spec.num_layers * kept
    if spec.checkpointing != "none":
        between = piece.clips * piece.steps * spec.d_model * norms
        size = spec.num_layers * between + kept
        formula = f"{formula}, of one layer; of others {norms} D"
    for conditioner in model.condition_provider.conditioners.values():
        if isinstance(conditioner, StyleConditioner) and conditioner.transformer is not None:
            style = conditioner.transformer.spec
            heard = style_frames(conditioner)
            size += style.num_layers * piece.clips * heard * kept_per_step(style, half, norms)
            formula += f"; and {style.num_layers} of the style conditioner"
    logits = piece.clips * model.num_codebooks * piece.frames * model.card
    return [
        Item("activations", size, formula),
        Item(
            "logits",
            LOGIT_COPIES * FLOAT32 * logits,
            f"{LOGIT_COPIES} * 4 B * {piece.clips} clips * {model.num_codebooks} codebooks * "
            f"{piece.frames} frames * {model.card}",
        ),
    ]


def kept_per_step(spec: TransformerSpec, half: int, norms: int) -> float:
    """Bytes that one layer keeps of one step.

    Two norms keep what they read. Of attention stay its input, queries, keys, values and output
    (which the next projection reads), of the feed-forward block its input and twice its inside.
    """
    hidden = spec.dim_feedforward / spec.d_model
    per_width = 2 * norms + (6 + 2 * hidden) * half
    if spec.cross_attention:
        per_width += norms + 3 * half
    return spec.d_model * per_width


def kept_formula(spec: TransformerSpec, half: int, norms: int) -> str:
    """`kept_per_step` in words."""
    cross = f" + {norms} + 3 * {half}" if spec.cross_attention else ""
    hidden = spec.dim_feedforward / spec.d_model
    return f"({2 * norms} + (6 + 2 * {hidden:g}) * {half}{cross}) B * width {spec.d_model}"


def piece_of(model: LMModel, cfg: DictConfig, frame_rate: float, processes: int = 1) -> Piece:
    """What a process of a run computes at once.

    Args:
        model: The language model.
        cfg: Resolved configuration of the run.
        frame_rate: Of the tokenizer, per second.
        processes: How many processes train together.
    """
    clips = max(1, cfg.dataset.batch_size // processes // cfg.optim.accumulate)
    frames = math.ceil((cfg.dataset.segment_duration or 30.0) * frame_rate)
    codes = torch.zeros(1, model.num_codebooks, frames, dtype=torch.long)
    pattern = model.pattern_provider.get_pattern(frames)
    laid_out = pattern.build_pattern_sequence(codes, model.special_token_id, True)
    steps = laid_out.values.shape[-1]
    conditioners = model.condition_provider.conditioners
    for name in model.fuser.names("prepend"):
        conditioner = conditioners[name]
        if isinstance(conditioner, StyleConditioner):
            steps += math.ceil(style_frames(conditioner) / conditioner.ds_factor)
        else:
            steps += TEXT_STEPS
    return Piece(clips, frames, steps)


def style_frames(conditioner: StyleConditioner) -> int:
    """Frames of the longest excerpt that a style conditioner hears."""
    longest = conditioner.varying_lengths[1]
    return conditioner.feature_extractor.num_frames(
        int(longest * conditioner.feature_extractor.sample_rate)
    )


def numel(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def available(device: torch.device) -> tuple[float, float]:
    """Free and total memory of a device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return total - torch.mps.current_allocated_memory(), total
    return memory_of_machine()


def memory_of_machine() -> tuple[float, float]:
    """Available and total memory of this machine or container, in bytes."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    free = total
    if MEMINFO.is_file():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * float(lines["MemAvailable"].split()[0])
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        most = float(limit.read_text())
        total, free = min(total, most), min(free, most - float(used.read_text()))
    return free, total


def count(number: float) -> str:
    """A number of parameters, such as `1.4 G` or `20.1 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"


def gigabytes(size: float) -> str:
    """A size in bytes, such as `5.6 GB` or `17 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
