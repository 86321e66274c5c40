"""Weight files: reading and writing without executing code, memory-mapped, with checksums.

A pickle can contain code. PyTorch's `weights_only` mode rebuilds only tensors and plain values and
rejects any other name; the names below are those of the configurations that the original pickled
into its training checkpoints.
"""

import hashlib
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

CHECKSUM = "checksum"  # key of the checksum in a safetensors header
# Last line of the configuration in an export that `torch.save` wrote, a zip archive with a CRC-32
# for each tensor. A comment, since the format of the original has no key for it.
CRC32_COMMENT = "# checksum: crc32\n"


def _empty_dict(factory: tp.Any = None) -> dict:
    """Replacement of `defaultdict`, which PyTorch reads only when it is empty."""
    return {}


# Exactly these names occur in a pickled configuration.
OMEGACONF_NAMES = [
    DictConfig,
    ListConfig,
    ContainerMetadata,
    Metadata,
    AnyNode,
    tp.Any,
    (_empty_dict, "collections.defaultdict"),
    dict,
    list,
    int,
]


def read_torch_file(path: Path) -> dict[str, tp.Any]:
    """Read a dictionary that `torch.save` wrote; its tensors are mapped from the file.

    Raises:
        CheckpointError: The file is truncated, fails its checksum, is not a checkpoint, or
            contains more than tensors, plain values and a configuration. No code in it is run.
    """
    mapped = zipfile.is_zipfile(path)  # the format before PyTorch 1.6 cannot be mapped
    try:
        with torch.serialization.safe_globals(OMEGACONF_NAMES):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise CheckpointError(_why_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} contains a {type(content).__name__}, not a checkpoint.")
    config = content.get("xp.cfg")
    if isinstance(config, str) and config.endswith(CRC32_COMMENT):
        verify_zip(path)
    return content


def verify_zip(path: Path) -> None:
    """Check the CRC-32 of each tensor in a `torch.save` file.

    Raises:
        CheckpointError: The file is not a zip archive, or a checksum does not match.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            corrupt = archive.testzip()
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error
    if corrupt is not None:
        raise CheckpointError(_corrupt(path, corrupt))


def read_safetensors_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        The tensors, mapped from the file, and the texts in its header.

    Raises:
        CheckpointError: The file is truncated, fails its checksum, or is not a safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is truncated or not a safetensors file: "
            f"{error}. Download or copy it again."
        ) from error
    expected = header.pop(CHECKSUM, None)
    if expected is not None and expected != content_checksum(state, header):
        raise CheckpointError(_corrupt(path, "its content"))
    return state, header


def write_safetensors_file(
    path: Path, state: tp.Mapping[str, Tensor], header: tp.Mapping[str, str]
) -> None:
    """Write tensors, with texts and a checksum in the header."""
    tensors = {key: value.detach().contiguous() for key, value in state.items()}
    header = {"format": "pt", **header}
    save_file(tensors, path, metadata=header | {CHECKSUM: content_checksum(tensors, header)})
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)  # the library writes files that only their owner can read


def content_checksum(state: tp.Mapping[str, Tensor], header: tp.Mapping[str, str]) -> str:
    """Return the SHA-256 of tensors (names, dtypes, shapes, bytes) and header texts."""
    digest = hashlib.sha256()
    for key in sorted(header):
        digest.update(f"{key}={header[key]}\n".encode())
    for key in sorted(state):
        value = state[key].detach()
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _corrupt(path: Path, part: str) -> str:
    return f"{path} is corrupt: the checksum of {part} does not match. Download or copy it again."


def _why_unreadable(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    with open(path, "rb") as file:
        begins_as_zip = file.read(4) == b"PK\x03\x04"
    rejected = re.search(r"GLOBAL (\S+)", str(error))
    if rejected:
        return (
            f"{path} contains {rejected.group(1)}, which could run code; nothing was loaded. Only "
            "tensors, plain values and a configuration are supported. Save the weights again, as "
            "torch.save({'best_state': {'model': state_dict}}, path)."
        )
    if size == 0 or (begins_as_zip and not zipfile.is_zipfile(path)):
        return f"{path} is truncated: it ends after {size} bytes. Download or copy it again."
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if "weights_only" in reason:  # torch's message recommends to load the file unsafely
        reason = "unknown file format"
    return f"{path} is not a checkpoint that torch.save wrote ({reason})."
