"""Reading weights and their configuration, whatever file they come in.

A package is a state dict with the configuration of the model it belongs to. Released models are
`state_dict.bin` / `compression_state_dict.bin` files, training runs leave `checkpoint.th`, exports
may also be `.safetensors` files, with the configuration in the header or as a `.yaml` beside them.
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

# The nodes of a training configuration that say how a model is built. All else in it describes
# the run that made the weights and is not read.
MODEL_KEYS = (
    *("lm_model", "transformer_lm", "codebooks_pattern", "conditioners", "fuser"),
    *("classifier_free_guidance", "attribute_dropout", "interleave_stereo_codebooks"),
    *("compression_model", "encodec", "seanet", "rvq", "spectral", "sample_rate", "channels"),
    *("compression_model_checkpoint", "compression_model_n_q", "dataset.segment_duration"),
)
# What a file means that does not say it.
DEFAULTS: dict[str, tp.Any] = {
    "lm_model": "transformer_lm",
    "codebooks_pattern": {"modeling": "delay"},  # that of all released models
    "conditioners": {},
    "fuser": {},
    "compression_model": "encodec",
    "dataset": {"segment_duration": None},
}
LEFT_OUT = object()


@dataclass(frozen=True)
class CheckpointFile:
    """Weights with the configuration of their model.

    `pretrained` stands instead of weights where a file only refers to a published model.
    """

    state: dict[str, Tensor]
    config: DictConfig
    pretrained: str | None = None


def read_checkpoint_file(path: Path) -> CheckpointFile:
    """Read a package from a file.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote.

    Raises:
        CheckpointError: The file is missing, torn, unsafe, or no package.
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
    return CheckpointFile(_with_sums(_weights_of(content, path)), config)


def _with_sums(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the running sums of codebooks that a half-size export has left out."""
    sums = {
        f"{name}_avg": embed * state[f"{name.removesuffix('embed')}cluster_size"][:, None]
        for name, embed in state.items()
        if name.endswith("_codebook.embed") and f"{name}_avg" not in state
    }
    return state | sums if sums else state


def _text_beside(path: Path) -> str | None:
    """The YAML file that goes with a safetensors file, if there is one."""
    candidates = [path.with_suffix(".yaml"), path.with_name("config.yaml")]
    return next((file.read_text() for file in candidates if file.is_file()), None)


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


def _config_of(config: tp.Any, path: Path) -> DictConfig:
    """The configuration of a package, with its interpolations alive."""
    try:
        if OmegaConf.is_config(config):  # unpickled: only its values are taken over
            config = OmegaConf.to_container(config)
        tree = OmegaConf.create(config or {})
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The configuration in {path} cannot be read: {reason}.") from error
    if not isinstance(tree, DictConfig):
        raise CheckpointError(f"The configuration in {path} is no mapping but {config!r:.80}.")
    return tree


def extract_model_config(config: DictConfig, on_unknown: OnUnknown | None = None) -> DictConfig:
    """Copy the keys that describe a model, resolved; the rest of a configuration is left unread.

    Released configurations refer to their author's environment in places that nobody needs.

    Args:
        config: What a package holds.
        on_unknown: Told of each value that refers to something that is not there; it is left out.
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
            if value is not LEFT_OUT and value is not None:
                OmegaConf.update(resolved, key, value, merge=False, force_add=True)
    return resolved


def _resolved(parent: tp.Any, key: tp.Any, where: str, on_unknown: OnUnknown) -> tp.Any:
    """A value without interpolations; what refers to nothing is left out."""
    try:
        value = parent[key]
        if not isinstance(value, DictConfig):
            is_list = OmegaConf.is_config(value)
            return OmegaConf.to_container(value, resolve=True) if is_list else value
    except OmegaConfBaseException:  # also of a mandatory value that nobody gave
        on_unknown(where, ())
        return LEFT_OUT
    items = {name: _resolved(value, name, f"{where}.{name}", on_unknown) for name in value}
    return {name: item for name, item in items.items() if item is not LEFT_OUT}
