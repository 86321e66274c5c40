"""Export of trained models: from a training checkpoint to files for distribution.

An exported model is a folder with `state_dict.bin` and `compression_state_dict.bin`, in the format
of the released models: the best weights and the configuration as YAML text, without the state of
the training. A `.safetensors` file has the same content, with the texts in its header. Both carry
checksums, which are verified when they are loaded.
"""

from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from torch import Tensor

from .. import __version__
from ..errors import CheckpointError
from .atomic_write import atomic_path
from .checkpoint_files import read_checkpoint_file
from .weight_files import CRC32_COMMENT, write_safetensors_file


def export_lm(
    checkpoint_path: Path | str, out_file: Path | str, dtype: torch.dtype | None = None
) -> Path:
    """Write the best weights of a language model.

    Args:
        checkpoint_path: `checkpoint.th` of the run, or an exported file.
        out_file: File to write, usually `FOLDER/state_dict.bin` or `.safetensors`.
        dtype: Dtype of the weights, such as float16 (as in released models); `None` keeps theirs.
            With a dtype, a `.safetensors` file omits the running sums of codebooks, which are
            computed from the other weights when it is read.

    Raises:
        CheckpointError: The checkpoint cannot be read or has no weights, or the file cannot be
            written.
    """
    return _export_weights(Path(checkpoint_path), Path(out_file), dtype)


def export_encodec(checkpoint_path: Path | str, out_file: Path | str) -> Path:
    """Write the best weights of a tokenizer, usually as `FOLDER/compression_state_dict.bin`.

    Arguments and errors as for `export_lm`.
    """
    return _export_weights(Path(checkpoint_path), Path(out_file))


def export_pretrained_compression_model(pretrained_encodec: str, out_file: Path | str) -> Path:
    """Write a reference to a published tokenizer, instead of its weights.

    Args:
        pretrained_encodec: Name for `load_compression_model`, such as `facebook/encodec_32khz` or
            `//bundled/mel_rvq_16khz`.
        out_file: File to write, usually `FOLDER/compression_state_dict.bin`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    return _write({"pretrained": pretrained_encodec}, {}, Path(out_file))


def _export_weights(checkpoint: Path, out_file: Path, dtype: torch.dtype | None = None) -> Path:
    content = read_checkpoint_file(checkpoint)
    if content.pretrained is not None:
        return export_pretrained_compression_model(content.pretrained, out_file)
    state = {key: _converted(key, value, dtype) for key, value in content.state.items()}
    if dtype is not None and out_file.suffix == ".safetensors":
        state = {k: v for k, v in state.items() if not k.endswith("_codebook.embed_avg")}
    return _write({"xp.cfg": OmegaConf.to_yaml(content.config)}, state, out_file)


def _converted(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Convert a floating-point tensor to `dtype`.

    Raises:
        CheckpointError: A value exceeds the range of the dtype.
    """
    if dtype is None or not value.is_floating_point():
        return value
    converted = value.to(dtype)
    if value.isfinite().all() and not converted.isfinite().all():
        raise CheckpointError(
            f"{name} has values up to {float(value.abs().max()):.3g}, beyond the range of {dtype}. "
            "Export without --half."
        )
    return converted


def _write(texts: dict[str, str], state: dict[str, Tensor], out_file: Path) -> Path:
    texts = texts | {"version": __version__}
    try:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out_file, fsync=True) as temporary:
            if out_file.suffix == ".safetensors":
                write_safetensors_file(temporary, state, texts | {"exported": "True"})
            else:
                # Cloned, since torch.save writes the whole storage of a sliced tensor.
                weights = {"best_state": {k: v.clone() for k, v in state.items()}} if state else {}
                if "xp.cfg" in texts:
                    config = texts["xp.cfg"].removesuffix(CRC32_COMMENT).rstrip("\n")
                    texts["xp.cfg"] = f"{config}\n{CRC32_COMMENT}"
                content = {**weights, **texts, "exported": True}
                with open(temporary, "wb") as file:
                    torch.save(content, file)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch: a RuntimeError if disk full
        raise CheckpointError(f"{out_file} cannot be written: {error}.") from error
    return out_file
