"""Tables of prompts: each row becomes the generation tasks of its variations."""

import os
import re
import typing as tp
from dataclasses import replace
from pathlib import Path

from ..data.io.tables import read_rows
from ..errors import ConfigError
from .request import Request, to_integer, to_text

MAX_NAME_LENGTH = 40  # characters of a text that become part of a file name


class Task(tp.NamedTuple):
    """A sample to generate."""

    name: str  # stem of its files
    request: Request


def read_prompts(
    table: Path, common: tp.Mapping[str, tp.Any], count: int, seed: int
) -> tp.Iterator[Task]:
    """Yield the tasks of a table.

    Columns are the fields of `Request`, `count` and `name`. Empty cells take the value of the
    command line. Paths of style clips are relative to the table.

    Args:
        table: CSV, TSV, JSON lines or Parquet.
        common: Fields of `Request` that apply to all rows.
        count: Variations per row.
        seed: Seed of the first sample, incremented for each further one.

    Raises:
        ConfigError: A row cannot be used, or there is none.
        ManifestError: The table cannot be read.
    """
    total = 0
    for number, row in enumerate(read_rows(table), start=1):
        where = f"{table}, prompt {number}"
        cells = {key: value for key, value in row.items() if not _is_empty(value)}
        try:
            if "style" in cells:
                style = Path(to_text("style", cells["style"])).expanduser()
                cells["style"] = str(table.parent / style)
            name = to_text("name", cells.pop("name", ""))
            variations = to_integer("count", cells.pop("count", count))
            if variations < 1:
                raise ConfigError(f"count must be at least 1 but is {variations}.")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        first = cells.pop("seed", seed + total)
        request = Request.from_dict({**common, **cells, "seed": first}, where, ("count", "name"))
        yield from expand_variations(request, variations, number, name)
        total += variations
    if total == 0:
        raise ConfigError(
            f"{table} contains no prompts. Write one per row, below a row with the column names."
        )


def _is_empty(cell: tp.Any) -> bool:
    return cell in (None, "") or (isinstance(cell, float) and cell != cell)


def expand_variations(
    request: Request, count: int, number: int, name: str = ""
) -> tp.Iterator[Task]:
    """Yield variations of a request, which differ in their seed.

    Args:
        request: The first variation; the seed is incremented for the others.
        count: Number of variations.
        number: Number of the prompt, from 1; file names start with it.
        name: Stem of the files; empty derives it from text or clip.
    """
    slug = slugify(name or request.text or Path(request.style or "free").stem)
    stem = f"{number:03d}_{slug}"
    for index in range(count):
        name = stem if count == 1 else f"{stem}_{index + 1}"
        yield Task(name, replace(request, seed=request.seed + index))


def slugify(text: str) -> str:
    """Return a text as part of a file name: letters and digits, joined by hyphens.

    Letters of any script are kept where the file system's encoding has them.
    """
    name = "-".join(re.findall(r"\w+", text.lower()))[:MAX_NAME_LENGTH].strip("-_")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        name = name.encode("ascii", "ignore").decode().strip("-_")
    return name or "untitled"
