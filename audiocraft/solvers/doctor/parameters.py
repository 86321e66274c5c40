"""How many parameters each part of a run has. Shapes suffice: no memory is taken for numbers."""

import typing as tp
from functools import partial

import torch
from omegaconf import DictConfig
from torch import nn

from ...models import builders, loaders
from ...models.adapters import Lora, add_adapters
from ...models.lm import LMModel
from ...modules.conditioners import StyleConditioner, T5Conditioner, build_hubert
from .memory import numel

# Parameters of the encoders.
T5_SIZES = {"t5-small": 35_330_816, "t5-base": 109_628_544, "t5-large": 334_939_648}


def needed_to_build(cfg: DictConfig) -> list[str]:
    """Parts whose weights are read as soon as the model is built."""
    nodes = (cfg.get("conditioners") or {}).items()
    listeners = [
        f"{name}: listener"
        for name, node in nodes
        if node.model == "style" and node.style.model_name == "encodec"
    ]
    return listeners + [str(n) for n, node in nodes if node.model == "t5" and node.t5.finetune]


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
    "musicnn": lambda conditioner: size_of(conditioner.listener.network.module),
    "encodec": lambda conditioner: size_of(conditioner.listener.codec.module),
}
