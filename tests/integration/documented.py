"""Commands in the shell blocks of the README and the documentation."""

import re
import shlex
import typing as tp
from pathlib import Path

from .conftest import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "dataset" / "README.md",
    *sorted((ROOT / "model_cards").glob("*.md")),
]
TRAINING = ("dora run", "python train.py", "audiocraft.train", "torchrun")


class Command(tp.NamedTuple):
    """A documented command."""

    text: str
    page: Path

    @property
    def words(self) -> list[str]:
        """Words without leading environment variables."""
        words = shlex.split(self.text)
        while re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return words

    @property
    def kind(self) -> str:
        """Program and subcommand: `make`, `dora run`, `audiocraft generate`, `benchmarks.data` …"""
        first, *rest = self.words
        if first == "python" and rest[0] == "-m":
            return f"audiocraft {rest[2]}" if rest[1] == "audiocraft" else rest[1]
        return f"{first} {rest[0]}" if first in ("dora", "python", "audiocraft") else first

    @property
    def arguments(self) -> list[str]:
        """Arguments of `python` that run the program."""
        first, *rest = self.words
        if first == "python":
            return rest
        module = {"torchrun": "torch.distributed.run"}.get(first, first)
        return ["-m", module, *rest]

    @property
    def overrides(self) -> list[str]:
        """Overrides of a run."""
        words = self.words
        if words[0] == "make":  # ARGS='OVERRIDE …'
            words = [w for word in words for w in shlex.split(word.removeprefix("ARGS="))]
        return [word for word in words if re.match(r"[+~]?[\w./]+=", word)]


def commands_of(page: Path) -> tp.Iterator[Command]:
    """Commands of a page's shell blocks, without comments."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```shell\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield Command(command, page)


def documented() -> list[Command]:
    """Each command once, in the order of the pages."""
    return list({c.text: c for page in PAGES for c in commands_of(page)}.values())
