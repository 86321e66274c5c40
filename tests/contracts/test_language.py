"""Plain terms: words that neither identifiers nor prose may contain; docs/GLOSSARY.md has ours.

As a tool, for some files: `python tests/contracts/test_language.py audiocraft/data docs`.
"""

import ast
import io
import json
import re
import sys
import tokenize
import typing as tp
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("audiocraft", "config", "demos", "docs", "README.md")

IDENTIFIERS = re.findall(
    r"\w+",
    """
    audible deaf dice ears heard hear hearing hears journal listen listened listener
    listeners listening listens maker mended nobody obey obeys riddle seam seams somebody spoilt
    squeeze squeezed steering studio surprise surprised surroundings tell telling tells told torn
    twin twins unheard untold
""",
)

PROSE = re.findall(
    r"\w+",
    """
    audible deaf dice ears heard hear hearing hears lest listen listened listener listeners
    listening listens mended nobody obey obeys seam seams somebody spoilt squeeze squeezed surprise
    surprised surprises surroundings tell telling tells told torn twin twins unheard untold
""",
)
PHRASES = (
    *("go on", "goes on", "going on", "went on", "so many", "how many pass", "hold still"),
    *("holds still", "is no number", "said otherwise", "at the door", "put up with"),
)

# Where such a word is the field's own term, or a name that others gave.
EXCEPTIONS = (
    r"listening[- ]tests?",
    r"listening quality",  # what ViSQOL estimates
    r"--listen\b",
    r"args\.listen",
)


class Finding(tp.NamedTuple):
    """One word that may not be used."""

    path: Path
    line: int
    word: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word}"


def words_of(identifier: str) -> list[str]:
    """The words of `snake_case` and `CamelCase`, in lower case."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)
    return [part.lower() for part in parts]


def findings_in_prose(path: Path, line: int, text: str) -> tp.Iterator[Finding]:
    """Words and phrases of a text that may not be used."""
    for number, row in enumerate(text.splitlines() or [""]):
        for exception in EXCEPTIONS:
            row = re.sub(exception, "", row, flags=re.I)
        row = re.sub(r"`[^`]*`|\bhttps?://\S+", "", row)  # code has its own list
        for word in re.findall(r"[A-Za-z]+", row):
            if word.lower() in PROSE:
                yield Finding(path, line + number, word)
        for phrase in PHRASES:
            if re.search(rf"\b{phrase}\b", row, re.I):
                yield Finding(path, line + number, phrase)


def findings_in_python(path: Path, source: str) -> tp.Iterator[Finding]:
    """Words of identifiers that a file defines, and of its comments, docstrings and messages."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.id if isinstance(node, ast.Name) else node.attr]
        for name in set(names) - {"tell"}:  # a method of Python's file objects
            for word in words_of(name):
                if word in IDENTIFIERS:
                    yield Finding(path, node.lineno, f"{word} (in {name})")  # type: ignore
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_prose = token.type == tokenize.COMMENT or (
            token.type in (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))
            and " " in token.string
        )
        if is_prose:
            yield from findings_in_prose(path, token.start[0], token.string)


def findings_in_notebook(path: Path, source: str) -> tp.Iterator[Finding]:
    """Words of a notebook's cells."""
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from findings_in_prose(path, 1, text)
        elif not text.lstrip().startswith(("%", "!")):
            yield from findings_in_python(path, text)


def findings_in(path: Path) -> list[Finding]:
    """Words of a file that may not be used."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return list(findings_in_python(path, source))
    if path.suffix == ".ipynb":
        return list(findings_in_notebook(path, source))
    if path.suffix == ".md":
        source = re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), source, flags=re.S)
    return list(findings_in_prose(path, 1, source))


def files_in(places: tp.Iterable[str | Path]) -> list[Path]:
    """Python, YAML, Markdown and notebook files."""
    found = []
    for place in places:
        path = ROOT / place
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [p for p in inside if p.suffix in (".py", ".yaml", ".md", ".ipynb")]
    return sorted(found)


@pytest.mark.parametrize("path", files_in(PLACES), ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_standard_terms(path):
    found = [str(finding) for finding in findings_in(path)]
    assert not found, "\n".join(found)


def test_both_lists_are_applied():
    source = 'def listener():\n    """It hears."""\n    x.dice = "the run goes on"  # torn\n'
    found = {finding.word.partition(" (")[0] for finding in findings_in_python(ROOT, source)}
    assert found == {"listener", "hears", "dice", "goes on", "torn"}
    text = "A listening test of `listener`; it is served with --listen. Who listens?"
    assert [f.word for f in findings_in_prose(ROOT, 1, text)] == ["listens"]


if __name__ == "__main__":
    print("\n".join(str(f) for p in files_in(sys.argv[1:] or PLACES) for f in findings_in(p)))
