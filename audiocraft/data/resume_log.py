"""What a long command has found out so far, so that it goes on where it was stopped.

A journal lies beside the file that the command will write and is gone when that is complete. Each
line holds what was found out about one file, under the name, size and time of that file: a file
that changed in between is looked at again.
"""

import json
import os
import typing as tp
from pathlib import Path

from .io.files import split_member


class ResumeLog:
    """Answers that outlive an interruption.

    Args:
        output: The file that the command writes; the journal is called `.NAME.resume_log`.
        settings: What the answers depend on beside the files; others start the journal anew.
    """

    def __init__(self, output: str | Path, settings: str = ""):
        output = Path(output)
        self.path = output.with_name(f".{output.name}.resume")
        self.header = {"settings": settings}
        self.answers = self._read()
        self._begun = False

    def __enter__(self) -> tp.Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: tp.Any) -> None:
        if error is None:
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, tp.Any]:
        """The answers of an earlier call with the same settings."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return {}
        entries = [_parse(line) for line in lines]
        if entries[0] != self.header:
            return {}
        return {e[0]: e[1] for e in entries[1:] if isinstance(e, list) and len(e) == 2}

    def _begin(self) -> None:
        """Write the header, or end a line that was cut short."""
        self._begun = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a" if self.answers else "w", encoding="utf-8") as file:
            file.write("\n" if self.answers else json.dumps(self.header) + "\n")

    def find(self, path: str | Path) -> tp.Any:
        """The answer about a file as it is now; `None` if there is none yet."""
        return self.answers.get(_key(path)) if self.answers else None

    def add(self, path: str | Path, answer: tp.Any) -> None:
        """Remember the answer about a file: anything that JSON holds."""
        if not self._begun:
            self._begin()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([_key(path), answer]) + "\n")


def _parse(line: str) -> tp.Any:
    """What a line holds; `None` where it was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _key(path: str | Path) -> str:
    """Name, size and time of a file, or of the archive that holds it."""
    try:
        status = os.stat(split_member(path)[0])
    except (OSError, ValueError):
        return str(path)
    return f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
