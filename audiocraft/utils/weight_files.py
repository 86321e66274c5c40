"""Opening files of weights: mapped into memory, and never running what they could carry.

A pickle can hold code. PyTorch reads one so that only tensors and plain values come out of it, and
stops at the first name of anything else; the few names below make the configurations readable that
the original pickled into its training checkpoints.
"""

import os
import re
import typing as tp
import zipfile
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError


def _plain_dict(factory: tp.Any = None) -> dict:
    """Stands for `defaultdict`, which PyTorch reads only when it is empty."""
    return {}


# Exactly these names occur in a pickled configuration.
OMEGACONF_NAMES = [
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


def read_torch_file(path: Path) -> dict[str, tp.Any]:
    """What `torch.save` wrote to `path`: tensors stay on disk until they are used.

    Raises:
        CheckpointError: The file is torn, no such file at all, or holds more than tensors, plain
            values and a configuration; nothing of the rest has been run then.
    """
    mapped = zipfile.is_zipfile(path)  # files of PyTorch before 1.6 are not, and are read at once
    try:
        with torch.serialization.safe_globals(OMEGACONF_NAMES):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise CheckpointError(_why_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint.")
    return content


def read_safetensors_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, mapped, and the texts in its header.

    Raises:
        CheckpointError: The file is torn, or no such file at all.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        return load_file(path), header
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is torn or no safetensors file: {error}. "
            "Download or copy it again."
        ) from error


def write_safetensors_file(
    path: Path, state: tp.Mapping[str, Tensor], header: tp.Mapping[str, str]
) -> None:
    """Write tensors, with texts in the header."""
    whole = {key: value.detach().contiguous() for key, value in state.items()}
    save_file(whole, path, metadata={"format": "pt", **header})
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)  # readable like any other file: the library lets nobody else in


def _why_unreadable(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    with open(path, "rb") as file:
        begins_as_zip = file.read(4) == b"PK\x03\x04"
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign:
        return (
            f"{path} names {foreign.group(1)}, which could run code: it is refused unread. Only "
            "tensors, plain values and a configuration are read. Save the weights anew, as "
            "torch.save({'best_state': {'model': state_dict}}, path)."
        )
    if size == 0 or (begins_as_zip and not zipfile.is_zipfile(path)):
        return f"{path} is torn: it ends after {size} bytes. Download or copy it again."
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if "weights_only" in reason:  # torch advises to read the file unsafely
        reason = "it begins with other bytes"
    return f"{path} is not a checkpoint that torch.save wrote ({reason})."
