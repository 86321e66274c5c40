"""Reading weights and their configuration, whatever file they come in.

A package is a state dict with the configuration of the model it belongs to. Released models are
`state_dict.bin` / `compression_state_dict.bin` files, training runs leave `checkpoint.th`, bundled
and exported models are a `.safetensors` file beside a `.yaml`. Files are opened so that they can
hold tensors and plain values, never code.
"""

import logging
import typing as tp
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError

logger = logging.getLogger(__name__)


def _plain_dict(factory: tp.Any = None) -> dict:
    """Stands for `defaultdict`, which PyTorch reads only when it is empty."""
    return {}


# Training checkpoints of the original pickle their configuration; exactly these names occur.
OMEGACONF_CLASSES = [
    DictConfig,
    ListConfig,
    ContainerMetadata,
    Metadata,
    AnyNode,
    tp.Any,
    (_plain_dict, "collections.defaultdict"),
    dict,
    list,
    int,
]

# The nodes of a training configuration that say how a model is built. All else in it describes
# the run that made the weights and is not read.
MODEL_KEYS = (
    *("lm_model", "transformer_lm", "codebooks_pattern", "conditioners", "fuser"),
    *("classifier_free_guidance", "attribute_dropout", "interleave_stereo_codebooks"),
    *("compression_model", "encodec", "seanet", "rvq", "spectral", "sample_rate", "channels"),
    *("compression_model_checkpoint", "compression_model_n_q", "dataset"),
)


@dataclass(frozen=True)
class Package:
    """Weights with the configuration of their model.

    `pretrained` stands instead of weights where a file only refers to a published model.
    """

    state: dict[str, Tensor]
    config: DictConfig
    pretrained: str | None = None


def read_package(path: Path) -> Package:
    """Read a package from a file.

    Args:
        path: A `.safetensors` file with a `.yaml` of the same stem (or `config.yaml`) beside it,
            or a file that `torch.save` wrote.

    Raises:
        CheckpointError: The file is missing, torn, unsafe, or no package.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no model file at {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = read_torch_file(path)
    config = _config_of(content.get("xp.cfg"))
    if "pretrained" in content:
        return Package({}, config, pretrained=content["pretrained"])
    return Package(_weights_of(content, path), config)


def read_torch_file(path: Path) -> dict[str, tp.Any]:
    """What `torch.save` wrote to `path`: tensors stay on disk until they are used."""
    try:
        with torch.serialization.safe_globals(OMEGACONF_CLASSES):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {error}. "
            "Files that hold more than tensors and a configuration are refused."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint.")
    return content


def _read_safetensors(path: Path) -> Package:
    candidates = [path.with_suffix(".yaml"), path.with_name("config.yaml")]
    config = next((file for file in candidates if file.is_file()), None)
    if config is None:
        raise CheckpointError(f"{path} has no configuration beside it: {candidates[0]} is missing.")
    try:
        return Package(load_file(path), _config_of(config.read_text()))
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}.") from error


def _weights_of(content: dict[str, tp.Any], path: Path) -> dict[str, Tensor]:
    """The best weights in a checkpoint: of an export, of a run, or made by hand."""
    for key in ("fsdp_best_state", "best_state"):
        best = content.get(key) or {}
        state = best.get("model", best) if isinstance(best, dict) else {}
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return state
    if isinstance(content.get("model"), dict) and content["model"]:
        return content["model"]
    raise CheckpointError(
        f"{path} holds no weights: expected {{'best_state': {{'model': state_dict}}}} "
        f"but found the keys {', '.join(map(str, list(content)[:8]))}."
    )


def _config_of(config: tp.Any) -> DictConfig:
    """The part of a configuration that describes the model, with its interpolations alive."""
    if config is None:
        return OmegaConf.create({})
    if OmegaConf.is_config(config):  # unpickled: only its values are taken over
        config = OmegaConf.to_container(config)
    return tp.cast(DictConfig, OmegaConf.create(config))


def model_config(config: DictConfig) -> DictConfig:
    """Copy the keys that describe a model, resolved; the rest of a configuration is left unread.

    Released configurations refer to their author's environment in places that nobody needs.
    """
    resolved: dict[str, tp.Any] = {}
    for key in MODEL_KEYS:
        if key == "dataset":
            value = OmegaConf.select(config, "dataset.segment_duration")
            value = {"segment_duration": value}
        else:
            value = OmegaConf.select(config, key)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        if value is not None:
            resolved[key] = value
    return OmegaConf.create(resolved)
