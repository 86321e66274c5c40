"""From a training checkpoint to files that can be given away.

An exported model is a folder with `state_dict.bin` and `compression_state_dict.bin`, in the form of
the released models: the best weights and the configuration as YAML text, nothing of the training.
"""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from .. import __version__
from .packages import read_package


def export_lm(checkpoint_path: Path | str, out_file: Path | str) -> Path:
    """Write the best weights of a run's language model.

    Args:
        checkpoint_path: `checkpoint.th` of the run.
        out_file: Where to write, usually `FOLDER/state_dict.bin`.

    Raises:
        CheckpointError: The checkpoint cannot be read or has no weights.
    """
    return _export_weights(Path(checkpoint_path), Path(out_file))


def export_encodec(checkpoint_path: Path | str, out_file: Path | str) -> Path:
    """Write the best weights of a tokenizer, usually as `FOLDER/compression_state_dict.bin`."""
    return _export_weights(Path(checkpoint_path), Path(out_file))


def export_pretrained_compression_model(pretrained_name: str, out_file: Path | str) -> Path:
    """Write a reference to a tokenizer that others publish, instead of its weights.

    Args:
        pretrained_name: A name that `load_compression_model` understands, such as
            `facebook/encodec_32khz` or `//bundled/mel_rvq_16khz`.
        out_file: Where to write, usually `FOLDER/compression_state_dict.bin`.
    """
    return _write({"pretrained": pretrained_name}, Path(out_file))


def _export_weights(checkpoint: Path, out_file: Path) -> Path:
    package = read_package(checkpoint)
    state = {key: value.clone() for key, value in package.state.items()}
    return _write({"best_state": state, "xp.cfg": OmegaConf.to_yaml(package.config)}, out_file)


def _write(content: dict, out_file: Path) -> Path:
    out_file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content | {"version": __version__, "exported": True}, out_file)
    return out_file
