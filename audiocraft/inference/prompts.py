"""Tables of what is to be made: one piece, or several variations of it, per line."""

import re
import typing as tp
from dataclasses import replace
from pathlib import Path

from ..data.io.tables import read_rows
from ..errors import ConfigError
from .request import Request

NAME_LENGTH = 40  # characters of a text that are in the name of a file


class Task(tp.NamedTuple):
    """A piece to make, and the stem of its files."""

    name: str
    request: Request


def read_prompts(
    table: Path, common: tp.Mapping[str, tp.Any], count: int, seed: int
) -> tp.Iterator[Task]:
    """The tasks of a table.

    Columns are fields of `Request`, and `count` and `name`. What a line leaves empty is taken from
    the command line. Paths of clips are relative to the table.

    Args:
        table: CSV, TSV, JSON lines or Parquet.
        common: Fields of `Request` for all lines.
        count: Variations of each line.
        seed: Of the first piece; the others count up from it.

    Raises:
        ConfigError: A line cannot be used, and the message names it; or there is none.
        ManifestError: The table cannot be read.
    """
    total = 0
    for number, row in enumerate(read_rows(table), start=1):
        where = f"{table}, prompt {number}"
        given = {key: value for key, value in row.items() if value not in (None, "")}
        style = given.get("style")
        if isinstance(style, str):
            given["style"] = str(table.parent / Path(style).expanduser())
        variations = _count(given.pop("count", count), where)
        name = given.pop("name", None)
        first = given.pop("seed", seed + total)
        request = Request.from_dict({**common, **given, "seed": first}, where, ("count", "name"))
        yield from expand_variations(request, variations, number, name)
        total += variations
    if total == 0:
        raise ConfigError(
            f"{table} holds no prompts: write one per line, below the columns' names."
        )


def expand_variations(
    request: Request, count: int, number: int, name: str | None = None
) -> tp.Iterator[Task]:
    """The same request with seeds that count up.

    Args:
        request: The first of them.
        count: How many.
        number: Of the prompt, from 1; the files are sorted by it.
        name: Stem of the files; made of the text or the clip if not given.
    """
    stem = f"{number:03d}_{slugify(name or request.text or Path(request.style or 'free').stem)}"
    for index in range(count):
        name = stem if count == 1 else f"{stem}_{index + 1}"
        yield Task(name, replace(request, seed=request.seed + index))


def slugify(text: str) -> str:
    """A text as part of a file's name: letters and digits of any script, joined by hyphens."""
    name = "-".join(re.findall(r"\w+", text.lower()))[:NAME_LENGTH].strip("-_")
    return name or "untitled"


def _count(value: tp.Any, where: str) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise ConfigError(f"{where}: count must be a whole number of at least 1 but is {value!r}.")
    return count
