"""Arrays in memory that is shared between processes.

The file list of a data set with a million files would otherwise be copied into every worker. It is
kept in an anonymous file, or in a safetensors file, that every process maps. Forked workers inherit
the mapping; others receive the file descriptor.
"""

import contextlib
import mmap
import os
import tempfile
import typing as tp
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import ManifestError
from ..utils.atomic_write import write_bytes

ALIGNMENT = 64  # bytes

Layout = list[tuple[str, str, tuple[int, ...], int]]  # name, type, shape, first byte


class SharedArrays(tp.Mapping[str, np.ndarray]):
    """Read-only arrays by name, copied once into memory that other processes map.

    Args:
        arrays: Arrays to copy.
    """

    def __init__(self, arrays: tp.Mapping[str, np.ndarray]):
        layout, size = _lay_out(arrays)
        descriptor = _anonymous_file()
        os.truncate(descriptor, max(size, 1))
        self._map(descriptor, layout)
        for name, array in arrays.items():
            self._arrays[name][...] = array

    def _map(self, descriptor: int, layout: Layout) -> None:
        self._path: Path | None = None
        self._descriptor, self._layout = descriptor, layout
        weakref.finalize(self, os.close, descriptor)
        mapped = mmap.mmap(descriptor, 0)
        self._arrays = {
            name: np.ndarray(shape, dtype, mapped, offset=start)
            for name, dtype, shape, start in layout
        }

    @classmethod
    def load(cls, path: str | Path) -> "SharedArrays":
        """Map the arrays of a file written by `save_arrays`.

        Raises:
            ManifestError: The file is missing, truncated, or of another format.
        """
        self = cls.__new__(cls)
        self._path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:  # maps them; `np` would read them
                self._arrays = {key: file.get_tensor(key).numpy() for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ManifestError(f"{path} cannot be read: {error}.") from None
        return self

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> tp.Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self):
        if self._path is not None:
            return SharedArrays.load, (self._path,)
        if get_spawning_popen() is None:  # not pickled to start a process: copy
            return SharedArrays, (dict(self._arrays),)
        return _of_descriptor, (DupFd(self._descriptor), self._layout)


def _of_descriptor(handle: tp.Any, layout: Layout) -> SharedArrays:
    """Map the arrays of the parent process."""
    shared = SharedArrays.__new__(SharedArrays)
    shared._map(handle.detach(), layout)
    return shared


def _lay_out(arrays: tp.Mapping[str, np.ndarray]) -> tuple[Layout, int]:
    """Position of each array in the file, and the size of the file."""
    layout, end = [], 0
    for name, array in arrays.items():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        layout.append((name, array.dtype.str, array.shape, start))
        end = start + array.nbytes
    return layout, end


def _anonymous_file() -> int:
    """In memory on Linux, not limited by the size of `/dev/shm`; elsewhere on disk."""
    with contextlib.suppress(AttributeError, OSError):
        return os.memfd_create("audiocraft")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def save_arrays(path: str | Path, arrays: tp.Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file atomically."""
    write_bytes(path, save(dict(arrays)))
