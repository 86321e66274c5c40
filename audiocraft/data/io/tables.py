"""Tables: rows of CSV, JSON lines, Parquet, and the Arrow files of Hugging Face data sets.

Rows are read one at a time as dictionaries, so that a table of audio need not fit in memory.
Parquet and Arrow need pyarrow, an optional package. No code of a data set is executed.
"""

import codecs
import csv
import json
import typing as tp
from pathlib import Path

from ...errors import ManifestError

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:
    pyarrow = None

Row = dict[str, tp.Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")
MAX_CELL_LENGTH = 2**30  # characters in a cell of a CSV table
ROWS = 16  # rows of Parquet read at once; each may contain the audio of a track


def read_rows(table: Path) -> tp.Iterator[Row]:
    """Read the rows of a table, as dictionaries by column name.

    Args:
        table: File with one of the extensions `SUFFIXES`.

    Raises:
        ManifestError: The file cannot be read, or pyarrow is not installed.
    """
    readers = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_json_lines,
        ".parquet": _read_parquet,
        ".arrow": _read_arrow,
    }
    if table.suffix.lower() not in readers:
        raise ManifestError(f"{table} is not a supported table. Supported: {', '.join(SUFFIXES)}.")
    try:
        yield from readers[table.suffix.lower()](table)
    except ManifestError:
        raise
    except UnicodeDecodeError:
        raise _encoding_error(table) from None
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise ManifestError(f"{table} cannot be read as a table: {error}.") from None


def _open_text(table: Path) -> tp.TextIO:
    """Open a table as UTF-8, or as UTF-16 if it begins with a byte order mark of UTF-16."""
    with open(table, "rb") as file:
        mark = file.read(2)
    is_utf_16 = mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return open(table, newline="", encoding="utf-16" if is_utf_16 else "utf-8-sig")


def _encoding_error(table: Path) -> ManifestError:
    """Return the error of a table that is not UTF-8, with the first such line."""
    with open(table, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode(errors="replace").strip()
            if "\ufffd" in text:
                where = f"{table}, line {number}, is not UTF-8: {text[:80]!r}"
                return ManifestError(f"{where}. Save the table as UTF-8 (in Excel: CSV UTF-8).")
    return ManifestError(f"{table} is damaged: it ends within a character.")


def _read_csv(table: Path) -> tp.Iterator[Row]:
    csv.field_size_limit(MAX_CELL_LENGTH)
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    with _open_text(table) as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for row in reader:
            if None in row or None in row.values():
                raise ManifestError(
                    f"{table}, line {reader.line_num}, has not as many cells as the first line. "
                    "Quote texts that contain the delimiter."
                )
            yield row


def _read_json_lines(table: Path) -> tp.Iterator[Row]:
    with _open_text(table) as file:
        for number, line in enumerate(file, start=1):
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise ManifestError(f"{table}, line {number}, is not one JSON object.")
            if row:
                yield row


def _read_parquet(table: Path) -> tp.Iterator[Row]:
    with _arrow(table).parquet.ParquetFile(table) as file:
        names = _class_names(file.schema_arrow)
        for batch in file.iter_batches(batch_size=ROWS):
            yield from _rows_of(batch, names)


def _read_arrow(table: Path) -> tp.Iterator[Row]:
    arrow = _arrow(table)
    with arrow.memory_map(str(table)) as file, arrow.ipc.open_stream(file) as batches:
        names = _class_names(batches.schema)
        for batch in batches:
            yield from _rows_of(batch, names)


def _arrow(table: Path) -> tp.Any:
    if pyarrow is None:
        raise ManifestError(f"Reading {table} needs pyarrow: pip install pyarrow.")
    return pyarrow


def _rows_of(batch: tp.Any, names: dict[str, list[str]]) -> tp.Iterator[Row]:
    for index in range(batch.num_rows):
        (row,) = batch.slice(index, 1).to_pylist()
        for column, classes in names.items():
            if isinstance(row[column], int) and 0 <= row[column] < len(classes):
                row[column] = classes[row[column]]
        yield row


def _class_names(schema: tp.Any) -> dict[str, list[str]]:
    """Class names of integer columns, from the metadata of Hugging Face data sets."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
