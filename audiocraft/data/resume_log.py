"""Resume log: per-file results of a long command, so that it resumes after an interruption.

The log is a hidden file beside the output and is deleted once the output is complete. Each line
is the result for one file, identified by path, size and modification time: a file that has
changed since is processed again.
"""

import hashlib
import json
import os
import typing as tp
from pathlib import Path

from .io.files import split_member

MAX_NAME = 240  # bytes; a longer name is replaced by its hash


class ResumeLog:
    """Per-file results that survive an interruption.

    Args:
        output: The file that the command writes; the log is called `.NAME.resume`.
        settings: Options that the results depend on; a log with other settings is discarded.
    """

    def __init__(self, output: str | Path, settings: str = ""):
        output = Path(output)
        name = output.name
        if len(os.fsencode(name)) > MAX_NAME:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        self.path = output.with_name(f".{name}.resume")
        self.header = {"settings": settings}
        self.results = self._read()
        self._started = False

    def __enter__(self) -> tp.Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: tp.Any) -> None:
        if error is None:
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, tp.Any]:
        """Results of an earlier call with the same settings."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return {}
        entries = [_parse(line) for line in lines]
        if entries[0] != self.header:
            return {}
        return {e[0]: e[1] for e in entries[1:] if isinstance(e, list) and len(e) == 2}

    def _start(self) -> None:
        """Write the header, or end a truncated line."""
        self._started = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a" if self.results else "w", encoding="utf-8") as file:
            file.write("\n" if self.results else json.dumps(self.header) + "\n")

    def find(self, path: str | Path) -> tp.Any:
        """The result for a file in its present state; `None` if there is none."""
        return self.results.get(_key(path)) if self.results else None

    def add(self, path: str | Path, result: tp.Any) -> None:
        """Append the result for a file: anything that JSON holds."""
        if not self._started:
            self._start()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([_key(path), result]) + "\n")


def _parse(line: str) -> tp.Any:
    """The content of a line; `None` if it is truncated."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _key(path: str | Path) -> str:
    """Path, size and modification time of a file, or of the archive that contains it."""
    try:
        status = os.stat(split_member(path)[0])
    except (OSError, ValueError):
        return str(path)
    return f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
