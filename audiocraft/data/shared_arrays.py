"""Arrays that many processes look at, and that exist once.

What a data set knows about a million files would otherwise be copied into every worker. Here it
lies in one file without a name, or in a file of its own, which every process maps. Where workers
are forked they inherit the mapping; otherwise they are handed the file.
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
from .io.files import replacing

ALIGNMENT = 64  # bytes

Layout = list[tuple[str, str, tuple[int, ...], int]]  # name, type, shape, first byte


class SharedArrays(tp.Mapping[str, np.ndarray]):
    """Arrays by name, copied once into memory that other processes map.

    Args:
        arrays: What to copy.
    """

    def __init__(self, arrays: tp.Mapping[str, np.ndarray]):
        layout, size = _lay_out(arrays)
        descriptor = _nameless_file()
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
        """Map the arrays that `save_arrays` wrote.

        Raises:
            ManifestError: The file is missing, cut short, or something else.
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
        if get_spawning_popen() is None:  # no process is being started: a copy on paper
            return SharedArrays, (dict(self._arrays),)
        return _of_descriptor, (DupFd(self._descriptor), self._layout)


def _of_descriptor(handle: tp.Any, layout: Layout) -> SharedArrays:
    """The arrays of the process that started this one."""
    shared = SharedArrays.__new__(SharedArrays)
    shared._map(handle.detach(), layout)
    return shared


def _lay_out(arrays: tp.Mapping[str, np.ndarray]) -> tuple[Layout, int]:
    layout, end = [], 0
    for name, array in arrays.items():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        layout.append((name, array.dtype.str, array.shape, start))
        end = start + array.nbytes
    return layout, end


def _nameless_file() -> int:
    """In memory on Linux, where it is not limited to the size of `/dev/shm`; else on disk."""
    with contextlib.suppress(AttributeError, OSError):
        return os.memfd_create("audiocraft")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def save_arrays(path: str | Path, arrays: tp.Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, which appears complete or not at all."""
    with replacing(path) as file:
        file.write(save(dict(arrays)))
