"""A file of weights, and what its configuration says about the model in it."""

from pathlib import Path

from omegaconf import DictConfig

from ...errors import CheckpointError
from ...utils.checkpoint_files import CheckpointFile, extract_model_config, read_checkpoint_file
from ...utils.config_arguments import IgnoredKeys
from ..lora import check_not_adapter

KINDS = {  # by the node that describes one
    "transformer_lm": "a language model",
    "encodec": "a native EnCodec",
    "spectral": "a spectral tokenizer",
}


def read_checkpoint(path: Path) -> tuple[CheckpointFile, DictConfig]:
    """A package, and what its configuration says about the model."""
    package = read_checkpoint_file(path)
    passed_over = IgnoredKeys()
    config = extract_model_config(package.config, passed_over)
    passed_over.log(str(path))
    return package, config


def read_lm_checkpoint(path: Path) -> tuple[CheckpointFile, DictConfig]:
    """A package that holds a language model.

    Raises:
        CheckpointError: It holds something else, or nothing says how the model is built.
    """
    package, config = read_checkpoint(path)
    check_has_weights(package, path)
    check_not_adapter(package.state, path)
    require(config, "transformer_lm", path)
    return package, config


def check_has_weights(package: CheckpointFile, path: Path) -> None:
    """See that a file holds weights, not the name of a tokenizer that others publish.

    Raises:
        CheckpointError: It is only a name.
    """
    if package.pretrained is not None:
        raise CheckpointError(
            f"{path} holds no weights: it only refers to the tokenizer {package.pretrained}."
        )


def require(config: DictConfig, node: str, path: Path) -> None:
    """See that a configuration says how a model is built.

    Raises:
        CheckpointError: It does not; the message says what the file is, or may be used for.
    """
    if node in config:
        return
    other = next((kind for kind in KINDS if kind in config), None)
    if other is not None:
        raise CheckpointError(f"{path} holds {KINDS[other]}, not {KINDS[node]}.")
    if path.with_name("config.json").is_file():
        raise CheckpointError(
            f"{path} is in the format of transformers, which keeps other names of weights. Take "
            "the state_dict.bin of the same model."
        )
    raise CheckpointError(
        f"{path} has weights, but no configuration with the node {node}, which says how their "
        "model is built. Such a file can only be given to continue_from."
    )
