"""Text files are opened with an explicit encoding, independent of the locale.

Ruff's PLW1514 reports the calls whose receiver it can infer; this test reports the others.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("audiocraft", "benchmarks", "dataset", "demos", "grids")
TEXT_METHODS = ("read_text", "write_text")


def is_binary(call: ast.Call, position: int) -> bool:
    """Whether the mode of a call to `open` is binary or unknown."""
    mode = next((k.value for k in call.keywords if k.arg == "mode"), None)
    if mode is None and len(call.args) > position:
        mode = call.args[position]
    if mode is None:
        return False
    return not isinstance(mode, ast.Constant) or "b" in str(mode.value)


def lacks_encoding(call: ast.Call) -> bool:
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    function = call.func
    if isinstance(function, ast.Name) and function.id == "open":
        return not is_binary(call, 1)
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr in TEXT_METHODS:
        module = isinstance(function.value, ast.Name) and function.value.id == "atomic_write"
        return not module
    # `path.open()`; `os.open`, `Image.open` and the like take other arguments.
    return function.attr == "open" and not call.args and not call.keywords


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_files_are_opened_with_an_encoding(folder):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert not found
