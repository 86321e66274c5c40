"""Origin of each set of weights of a run, and the setting that selects it.

Nothing is loaded or downloaded.
"""

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


class WeightSource(tp.NamedTuple):
    """Origin of the weights of one part."""

    part: str
    where: str  # a path, or how they are created
    why: str  # the setting that selects them
    is_here: bool = True  # on this machine
    problem: str | None = None  # why they cannot be loaded


class CheckpointProgress(tp.NamedTuple):
    """Number of finished epochs, and of updates after them."""

    epochs: int
    updates: int

    def __str__(self) -> str:
        more = f" and {self.updates} updates of the next" if self.updates else ""
        return f"{self.epochs} epochs{more}"


def get_checkpoint_progress(checkpoints: Checkpoints) -> CheckpointProgress | None:
    """Progress of an experiment's own checkpoint; `None` if it has none."""
    if not checkpoints.last.is_file():
        return None
    state = read_state(checkpoints.last, mmap=True)
    return CheckpointProgress(len(state["history"]), state.get("progress", {}).get("updates", 0))


def get_weight_sources(
    cfg: DictConfig, checkpoints: Checkpoints, progress: CheckpointProgress | None
) -> list[WeightSource]:
    """Origin of all weights of a run.

    Args:
        cfg: Resolved configuration of the run.
        checkpoints: Checkpoints of the experiment.
        progress: Progress of its own checkpoint; `None` if it has none.
    """
    sources = [_language_model_source(cfg, checkpoints, progress)]
    if cfg.lora.use and cfg.continue_from:
        sources.append(WeightSource("adapters", "new, initially without effect", "lora.use=true"))
    name = cfg.compression_model_checkpoint
    sources.append(locate("tokenizer", name, "compression_model_checkpoint", COMPRESSION_FILES))
    for key, node in (cfg.get("conditioners") or {}).items():
        sources += _conditioner_sources(str(key), node)
    return sources


def _language_model_source(
    cfg: DictConfig, checkpoints: Checkpoints, progress: CheckpointProgress | None
) -> WeightSource:
    part = "language model"
    if progress is not None:
        why = f"its own checkpoint, after {progress}"
        if cfg.continue_from:
            why += f"; it takes precedence over continue_from={cfg.continue_from}"
        return WeightSource(part, str(checkpoints.last), why)
    if cfg.continue_from:
        return locate(part, cfg.continue_from, "continue_from", LM_FILES)
    return WeightSource(
        part, f"new, initialised from seed={cfg.seed}", "no checkpoint and no continue_from"
    )


def _conditioner_sources(name: str, node: DictConfig) -> list[WeightSource]:
    """The pretrained networks of one conditioner."""
    why = f"conditioners.{name}"
    if node.model == "t5":
        learns = ", trained" if node.t5.get("finetune") else ""
        return [locate(name, node.t5.name, f"{why}.t5.name{learns}", TRANSFORMERS_FILES)]
    if node.model != "style":
        return []
    style, part = node.style, f"{name}: feature extractor"
    why = f"{why}.style.model_name={style.model_name}"
    if style.model_name == "mert":
        return [locate(part, MERT, f"{why} (licence CC-BY-NC 4.0)", TRANSFORMERS_FILES)]
    if style.model_name == "musicnn":
        return [WeightSource(part, str(bundled_dir() / "musicnn_mtt"), why)]
    return [locate(part, style.encodec_checkpoint, f"{why}, encodec_checkpoint", COMPRESSION_FILES)]


def locate(part: str, name: str, why: str, filenames: tp.Sequence[str]) -> WeightSource:
    """Find the weights of a name.

    Args:
        part: Part of the model that loads them.
        name: Any name that `find_model_file` accepts.
        why: Setting that selects them.
        filenames: File names of weights in a repository or folder.
    """
    why = f"{why}: {name}"
    repo_id = hub_id(name)
    if name.startswith(PRETRAINED) and repo_id in PACKAGE_CODECS:
        if repo_id == "debug_compression_model":
            return WeightSource(part, "created with random weights", why)
        return WeightSource(part, "downloaded by its own package, unless cached there", why, False)
    if repo_id is None and "/" not in name and not Path(name).exists():
        repo_id = name  # of transformers, such as t5-base
    if repo_id is None:
        try:
            return WeightSource(part, str(find_model_file(name, filenames)), why)
        except CheckpointError as error:
            return WeightSource(part, "not found", why, is_here=False, problem=str(error))
    names = TRANSFORMERS_FILES if repo_id in TRANSFORMERS_CODECS else filenames
    cached = find_in_cache(repo_id, names)
    if cached is not None:
        return WeightSource(part, f"{cached} (in the cache)", why)
    where = f"not here: downloaded from the hub into {AudioCraftEnvironment.get_cache_dir()}"
    problem = f"{repo_id} is not in the cache and HF_HUB_OFFLINE is set. Unset HF_HUB_OFFLINE."
    return WeightSource(part, where, why, False, problem if constants.HF_HUB_OFFLINE else None)
