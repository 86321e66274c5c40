"""From a training checkpoint to files that can be given away.

An exported model is a folder with `state_dict.bin` and `compression_state_dict.bin`, in the form of
the released models: the best weights and the configuration as YAML text, nothing of the training.
A file called `.safetensors` holds the same, its texts in the header.
"""

import contextlib
import os
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from torch import Tensor

from .. import __version__
from ..errors import CheckpointError
from .checkpoint_files import read_checkpoint_file
from .weight_files import write_safetensors_file


def export_lm(
    checkpoint_path: Path | str, out_file: Path | str, dtype: torch.dtype | None = None
) -> Path:
    """Write the best weights of a run's language model.

    Args:
        checkpoint_path: `checkpoint.th` of the run, or a file that was exported before.
        out_file: Where to write, usually `FOLDER/state_dict.bin` or `.safetensors`.
        dtype: Of the weights, such as float16, which released models have; `None` keeps theirs. A
            `.safetensors` file then also lacks the running sums of codebooks, which follow from
            the rest and are made up for when it is read.

    Raises:
        CheckpointError: The checkpoint cannot be read or has no weights, or the file cannot be
            written.
    """
    return _export_weights(Path(checkpoint_path), Path(out_file), dtype)


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
    return _write({"pretrained": pretrained_name}, {}, Path(out_file))


def _export_weights(checkpoint: Path, out_file: Path, dtype: torch.dtype | None = None) -> Path:
    package = read_checkpoint_file(checkpoint)
    if package.pretrained is not None:
        return export_pretrained_compression_model(package.pretrained, out_file)
    state = {key: _narrowed(key, value, dtype) for key, value in package.state.items()}
    if dtype is not None and out_file.suffix == ".safetensors":  # a codebook times its counts
        state = {k: v for k, v in state.items() if not k.endswith("_codebook.embed_avg")}
    return _write({"xp.cfg": OmegaConf.to_yaml(package.config)}, state, out_file)


def _narrowed(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor in another precision; whole numbers stay.

    Raises:
        CheckpointError: It holds numbers that the precision has no room for.
    """
    if dtype is None or not value.is_floating_point():
        return value
    narrowed = value.to(dtype)
    if value.isfinite().all() and not narrowed.isfinite().all():
        raise CheckpointError(
            f"{name} reaches {float(value.abs().max()):.3g}, more than {dtype} holds. Export "
            "without --half."
        )
    return narrowed


def _write(texts: dict[str, str], state: dict[str, Tensor], out_file: Path) -> Path:
    """Write beside the file and move it there: whoever has the old one open keeps it whole."""
    texts = texts | {"version": __version__}
    part = out_file.with_name(out_file.name + ".part")
    try:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        if out_file.suffix == ".safetensors":
            write_safetensors_file(part, state, texts | {"exported": "True"})
        else:
            # Copies: a slice of a larger tensor would bring the whole of it into the file.
            weights = {"best_state": {k: v.clone() for k, v in state.items()}} if state else {}
            with open(part, "wb") as file:
                torch.save({**weights, **texts, "exported": True}, file)
        os.replace(part, out_file)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch's word for a full disk
        with contextlib.suppress(OSError):
            part.unlink()
        raise CheckpointError(f"{out_file} cannot be written: {error}.") from error
    return out_file
