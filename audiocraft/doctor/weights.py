"""Where each set of weights of a run comes from, and why, without loading or fetching it."""

import typing as tp
from pathlib import Path

from huggingface_hub import constants
from omegaconf import DictConfig

from ..environment import AudioCraftEnvironment, bundled_dir
from ..errors import CheckpointError
from ..models.loaders import (
    COMPRESSION_FILES,
    LM_FILES,
    PACKAGE_CODECS,
    TRANSFORMERS_CODECS,
    find_model_file,
)
from ..models.weights.hub import PRETRAINED, find_in_cache, hub_id
from ..models.weights.pretrained import MERT
from ..solvers.checkpoint import Checkpoints, read_state

TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin")


class Source(tp.NamedTuple):
    """Where the weights of one part come from."""

    part: str
    where: str  # a path, or what will happen
    why: str
    is_here: bool = True  # on this machine
    problem: str | None = None  # why they cannot be had


class Progress(tp.NamedTuple):
    """How far an experiment is."""

    epochs: int  # done
    updates: int  # of the epoch after them

    def __str__(self) -> str:
        inside = f" and {self.updates} updates of the next" if self.updates else ""
        return f"{self.epochs} epochs{inside}"


def progress_of(checkpoints: Checkpoints) -> Progress | None:
    """How far an experiment's own checkpoint is; `None` if it has none."""
    if not checkpoints.last.is_file():
        return None
    state = read_state(checkpoints.last, mmap=True)
    return Progress(len(state["history"]), state.get("progress", {}).get("updates", 0))


def sources_of(cfg: DictConfig, checkpoints: Checkpoints, own: Progress | None) -> list[Source]:
    """The weights of a run, each with the reason.

    Args:
        cfg: Resolved configuration of the run.
        checkpoints: Of the experiment.
        own: How far its own checkpoint is; `None` if it has none.
    """
    sources = [_language_model(cfg, checkpoints, own)]
    if cfg.lora.use and cfg.continue_from:
        sources.append(Source("adapters", "new, they add nothing yet", "lora.use=true"))
    name = cfg.compression_model_checkpoint
    sources.append(located("tokenizer", name, "compression_model_checkpoint", COMPRESSION_FILES))
    for key, node in (cfg.get("conditioners") or {}).items():
        sources += _of_conditioner(str(key), node)
    return sources


def _language_model(cfg: DictConfig, checkpoints: Checkpoints, own: Progress | None) -> Source:
    part = "language model"
    if own is not None:
        why = f"its own checkpoint, after {own}"
        if cfg.continue_from:
            why += f"; it wins over continue_from={cfg.continue_from}"
        return Source(part, str(checkpoints.last), why)
    if cfg.continue_from:
        return located(part, cfg.continue_from, "continue_from", LM_FILES)
    return Source(part, f"new, drawn from seed={cfg.seed}", "no checkpoint and no continue_from")


def _of_conditioner(name: str, node: DictConfig) -> list[Source]:
    """The pretrained networks of one conditioner."""
    why = f"conditioners.{name}"
    if node.model == "t5":
        learns = ", and is trained" if node.t5.get("finetune") else ""
        return [located(name, node.t5.name, f"{why}.t5.name{learns}", TRANSFORMERS_FILES)]
    if node.model != "style":
        return []
    style, part = node.style, f"{name}: feature extractor"
    why = f"{why}.style.model_name={style.model_name}"
    if style.model_name == "mert":
        return [located(part, MERT, f"{why} (licence CC-BY-NC 4.0)", TRANSFORMERS_FILES)]
    if style.model_name == "musicnn":
        return [Source(part, str(bundled_dir() / "musicnn_mtt"), why)]
    return [
        located(part, style.encodec_checkpoint, f"{why}, encodec_checkpoint", COMPRESSION_FILES)
    ]


def located(part: str, name: str, why: str, filenames: tp.Sequence[str]) -> Source:
    """Where the weights of a name are.

    Args:
        part: What they are for.
        name: See `hub.py`.
        why: Which setting asks for them.
        filenames: What a repository or a folder may call them.
    """
    why = f"{why}: {name}"
    repo_id = hub_id(name)
    if name.startswith(PRETRAINED) and repo_id in PACKAGE_CODECS:
        if repo_id == "debug_compression_model":
            return Source(part, "made up on the spot, untrained", why)
        return Source(part, "fetched by a package of its own, unless it is there", why, False)
    if repo_id is None and "/" not in name and not Path(name).exists():
        repo_id = name  # of transformers, such as t5-base
    if repo_id is None:
        try:
            return Source(part, str(find_model_file(name, filenames)), why)
        except CheckpointError as error:
            return Source(part, "nowhere", why, is_here=False, problem=str(error))
    names = TRANSFORMERS_FILES if repo_id in TRANSFORMERS_CODECS else filenames
    cached = find_in_cache(repo_id, names)
    if cached is not None:
        return Source(part, f"{cached} (in the cache)", why)
    where = f"not here: fetched from the hub into {AudioCraftEnvironment.get_cache_dir()}"
    problem = f"{repo_id} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it. Unset it."
    return Source(part, where, why, False, problem if constants.HF_HUB_OFFLINE else None)
