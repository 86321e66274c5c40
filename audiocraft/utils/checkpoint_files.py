"""Checkpoint files: a state dict with the configuration of its model, in any supported format.

Released models are `state_dict.bin` / `compression_state_dict.bin` files, training runs write
`checkpoint.th`, exports may also be `.safetensors` files, with the configuration in the header or
in a `.yaml` file beside them.
"""

import typing as tp
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from ..errors import CheckpointError
from .config_arguments import OnUnknown
from .weight_files import read_safetensors_file, read_torch_file

# Keys of a training configuration that describe the model. The others describe the training run
# and are not read.
MODEL_KEYS = (
    *("lm_model", "transformer_lm", "codebooks_pattern", "conditioners", "fuser"),
    *("classifier_free_guidance", "attribute_dropout", "interleave_stereo_codebooks"),
    *("compression_model", "encodec", "seanet", "rvq", "spectral", "sample_rate", "channels"),
    *("compression_model_checkpoint", "compression_model_n_q", "dataset.segment_duration"),
)
# Values of keys that a file lacks.
DEFAULTS: dict[str, tp.Any] = {
    "lm_model": "transformer_lm",
    "codebooks_pattern": {"modeling": "delay"},  # that of all released models
    "conditioners": {},
    "fuser": {},
    "compression_model": "encodec",
    "dataset": {"segment_duration": None},
}
_OMITTED = object()


@dataclass(frozen=True)
class CheckpointFile:
    """Content of a checkpoint file: weights with the configuration of their model.

    A file that only refers to a published model has `pretrained` instead of weights.
    """

    state: dict[str, Tensor]
    config: DictConfig
    pretrained: str | None = None


def read_checkpoint_file(path: Path) -> CheckpointFile:
    """Read a checkpoint file.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote.

    Raises:
        CheckpointError: The file is missing, truncated, corrupt, unsafe, or not a checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no model file at {path}.")
    if path.suffix == ".safetensors":
        state, header = read_safetensors_file(path)
        content: dict[str, tp.Any] = header | ({"best_state": state} if state else {})
        if "xp.cfg" not in header:
            content["xp.cfg"] = _text_beside(path)
    else:
        content = read_torch_file(path)
    config = _config_of(content.get("xp.cfg"), path)
    if "pretrained" in content:
        return CheckpointFile({}, config, pretrained=content["pretrained"])
    return CheckpointFile(_with_embed_avg(_weights_of(content, path)), config)


def _with_embed_avg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the running sums of codebooks, which half-precision exports leave out."""
    sums = {
        f"{name}_avg": embed * state[f"{name.removesuffix('embed')}cluster_size"][:, None]
        for name, embed in state.items()
        if name.endswith("_codebook.embed") and f"{name}_avg" not in state
    }
    return state | sums if sums else state


def _text_beside(path: Path) -> str | None:
    """Return the YAML file beside a safetensors file, if there is one."""
    candidates = [path.with_suffix(".yaml"), path.with_name("config.yaml")]
    return next((file.read_text(encoding="utf-8") for file in candidates if file.is_file()), None)


def _weights_of(content: dict[str, tp.Any], path: Path) -> dict[str, Tensor]:
    """Return the best weights of a checkpoint of an export, of a run, or written by the user."""
    for key in ("fsdp_best_state", "best_state"):
        best = content.get(key) or {}
        state = best.get("model", best) if isinstance(best, dict) else {}
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return state
    if isinstance(content.get("model"), dict) and content["model"]:
        return content["model"]
    raise CheckpointError(
        f"{path} contains no weights: expected {{'best_state': {{'model': state_dict}}}} "
        f"but found the keys {', '.join(map(str, list(content)[:8]))}."
    )


def _config_of(config: tp.Any, path: Path) -> DictConfig:
    """Return the configuration, with unresolved interpolations."""
    try:
        if OmegaConf.is_config(config):  # unpickled: only its values are used
            config = OmegaConf.to_container(config)
        tree = OmegaConf.create(config or {})
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The configuration in {path} cannot be read: {reason}.") from error
    if not isinstance(tree, DictConfig):
        raise CheckpointError(f"The configuration in {path} is not a mapping: {config!r:.80}.")
    return tree


def extract_model_config(config: DictConfig, on_unknown: OnUnknown | None = None) -> DictConfig:
    """Return a copy of the keys that describe a model, with resolved interpolations.

    Other keys are not resolved: in released files some refer to the author's environment.

    Args:
        config: Configuration of a checkpoint file.
        on_unknown: Called with each key whose interpolation cannot be resolved; it is left out.
    """
    on_unknown = on_unknown or (lambda key, known: None)
    resolved = OmegaConf.create(DEFAULTS)
    for key in MODEL_KEYS:
        node: tp.Any = config
        *parents, last = key.split(".")
        for parent in parents:
            node = node.get(parent) if isinstance(node, DictConfig) else None
        if isinstance(node, DictConfig) and last in node:
            value = _resolved(node, last, key, on_unknown)
            if value is not _OMITTED and value is not None:
                OmegaConf.update(resolved, key, value, merge=False, force_add=True)
    return resolved


def _resolved(parent: tp.Any, key: tp.Any, where: str, on_unknown: OnUnknown) -> tp.Any:
    """Resolve interpolations; a value that cannot be resolved is omitted."""
    try:
        value = parent[key]
        if not isinstance(value, DictConfig):
            is_list = OmegaConf.is_config(value)
            return OmegaConf.to_container(value, resolve=True) if is_list else value
    except OmegaConfBaseException:  # also raised for a missing mandatory value
        on_unknown(where, ())
        return _OMITTED
    items = {name: _resolved(value, name, f"{where}.{name}", on_unknown) for name in value}
    return {name: item for name, item in items.items() if item is not _OMITTED}
