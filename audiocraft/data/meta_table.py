"""File list of a data set as a few arrays.

A million `AudioMeta` objects would take most of a gigabyte in every worker, since reference counts
are written to. Arrays take a fifth of it, once for all workers. An `AudioMeta` is created on
access.
"""

import math
import typing as tp

import numpy as np

from .manifest import AudioMeta
from .shared_arrays import SharedArrays

NONE_MARKER = "\0"  # encodes `None`; no path contains it


def pack_texts(texts: tp.Iterable[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Pack texts or `None`: the bytes of all texts, and the end of each, `[N]`."""
    encoded = [(NONE_MARKER if t is None else t).encode("utf-8", "surrogatepass") for t in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_text(packed: np.ndarray, ends: np.ndarray, index: int) -> str | None:
    """Inverse of `pack_texts` for one text."""
    start = int(ends[index - 1]) if index else 0
    text = packed[start : int(ends[index])].tobytes().decode("utf-8", "surrogatepass")
    return None if text == NONE_MARKER else text


class MetaTable(tp.Sequence[AudioMeta]):
    """An immutable sequence of `AudioMeta`.

    Args:
        arrays: Output of `columns_of`, possibly with further arrays.
        rows: Selected rows of the arrays, `[N]`; `None` selects all.
    """

    def __init__(self, arrays: SharedArrays, rows: np.ndarray | None = None):
        self.arrays = arrays
        self._rows = None if rows is None else SharedArrays({"rows": rows})

    @classmethod
    def of(cls, metas: tp.Iterable[AudioMeta]) -> "MetaTable":
        """Copy a list of files into a table."""
        return metas if isinstance(metas, MetaTable) else cls(SharedArrays(columns_of(metas)))

    def select(self, chosen: np.ndarray) -> "MetaTable":
        """The files where `chosen`, `[N]` bool, is True; the arrays are shared."""
        rows = np.arange(len(chosen)) if self._rows is None else self._rows["rows"]
        return MetaTable(self.arrays, rows[chosen])

    def row(self, index: int) -> int:
        """Row of a file in the arrays."""
        return index if self._rows is None else int(self._rows["rows"][index])

    def column(self, name: str) -> np.ndarray:
        """A numeric column, `[N]`."""
        values = self.arrays[name]
        return values if self._rows is None else values[self._rows["rows"]]

    @property
    def durations(self) -> np.ndarray:
        """Seconds of each file, `[N]` float64."""
        return self.column("durations")

    @property
    def weights(self) -> np.ndarray:
        """Sampling weights, `[N]` float64; 1 where the manifest has none."""
        return np.nan_to_num(self.column("weights"), nan=1.0)

    def __len__(self) -> int:
        return len(self.arrays["durations"] if self._rows is None else self._rows["rows"])

    def __iter__(self) -> tp.Iterator[AudioMeta]:
        return (self._meta(index) for index in range(len(self)))

    @tp.overload
    def __getitem__(self, index: int) -> AudioMeta: ...
    @tp.overload
    def __getitem__(self, index: slice) -> list[AudioMeta]: ...
    def __getitem__(self, index: int | slice) -> AudioMeta | list[AudioMeta]:
        if isinstance(index, slice):
            return [self._meta(i) for i in range(*index.indices(len(self)))]
        return self._meta(range(len(self))[index])

    def _meta(self, index: int) -> AudioMeta:
        row = self.row(index)
        amplitude, weight = (
            None if math.isnan(value) else value
            for value in (float(self.arrays[name][row]) for name in ("amplitudes", "weights"))
        )
        return AudioMeta(
            tp.cast(str, self.text("path", row)),
            float(self.arrays["durations"][row]),
            int(self.arrays["sample_rates"][row]),
            amplitude,
            weight,
            self.text("info_path", row),
        )

    def text(self, column: str, row: int) -> str | None:
        """A text column at a row of the arrays."""
        return unpack_text(self.arrays[column], self.arrays[f"{column}_ends"], row)


def columns_of(metas: tp.Iterable[AudioMeta]) -> dict[str, np.ndarray]:
    """Convert a list of files to the arrays of a `MetaTable`."""
    metas = list(metas)
    columns = {
        "durations": np.array([m.duration for m in metas], np.float64),
        "sample_rates": np.array([m.sample_rate for m in metas], np.int64),
        "amplitudes": np.array([_number_or_nan(m.amplitude) for m in metas], np.float64),
        "weights": np.array([_number_or_nan(m.weight) for m in metas], np.float64),
    }
    for name, texts in (
        ("path", (m.path for m in metas)),
        ("info_path", (m.info_path for m in metas)),
    ):
        columns[name], columns[f"{name}_ends"] = pack_texts(texts)
    return columns


def _number_or_nan(value: tp.Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
