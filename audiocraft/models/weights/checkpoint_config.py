"""Checkpoint files of models: reading, and checks of what they contain."""

from pathlib import Path

from omegaconf import DictConfig

from ...errors import CheckpointError
from ...utils.checkpoint_files import CheckpointFile, extract_model_config, read_checkpoint_file
from ...utils.config_arguments import IgnoredKeys
from ..lora import check_not_adapter

KINDS = {  # kinds of model, by the configuration node that describes them
    "transformer_lm": "a language model",
    "encodec": "a native EnCodec",
    "spectral": "a spectral tokenizer",
}


def read_checkpoint(path: Path) -> tuple[CheckpointFile, DictConfig]:
    """Return the content of a checkpoint file, and the model part of its configuration."""
    content = read_checkpoint_file(path)
    ignored = IgnoredKeys()
    config = extract_model_config(content.config, ignored)
    ignored.log(str(path))
    return content, config


def read_lm_checkpoint(path: Path) -> tuple[CheckpointFile, DictConfig]:
    """Like `read_checkpoint`, for a language model.

    Raises:
        CheckpointError: The file contains something else, or no configuration of the model.
    """
    content, config = read_checkpoint(path)
    check_has_weights(content, path)
    check_not_adapter(content.state, path)
    check_describes(config, "transformer_lm", path)
    return content, config


def check_has_weights(content: CheckpointFile, path: Path) -> None:
    """Check that a file contains weights instead of a reference to a published tokenizer.

    Raises:
        CheckpointError: It is a reference.
    """
    if content.pretrained is not None:
        raise CheckpointError(
            f"{path} contains no weights, only a reference to the tokenizer {content.pretrained}. "
            "Pass the file of a language model, such as state_dict.bin."
        )


def check_describes(config: DictConfig, node: str, path: Path) -> None:
    """Check that a configuration describes a model of a kind.

    Args:
        config: Configuration of the file.
        node: A key of `KINDS`.
        path: The file, for the error.

    Raises:
        CheckpointError: It does not; the message names what the file contains.
    """
    if node in config:
        return
    other = next((kind for kind in KINDS if kind in config), None)
    if other is not None:
        raise CheckpointError(f"{path} contains {KINDS[other]}, not {KINDS[node]}.")
    if path.with_name("config.json").is_file():
        raise CheckpointError(
            f"{path} is in the format of transformers, with other names of weights. Use the "
            "state_dict.bin of the same model."
        )
    raise CheckpointError(
        f"{path} has weights but no configuration with the node {node}, so the model cannot be "
        "built. Such a file can only be passed to continue_from."
    )
