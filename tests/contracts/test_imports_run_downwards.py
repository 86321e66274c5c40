"""Layers of the package: a file imports from its own layer or a lower one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "audiocraft"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {"errors", "_moved"},
    {"environment", "utils", "quantization"},
    {"optim", "signal"},
    {"data"},
    {"modules"},
    {"losses", "adversarial"},
    {"models"},
    {"metrics"},
    {"inference"},
    {"solvers"},
    {"labels", "doctor", "launch"},
    {"cli", "serve", "train"},
    {"__main__"},
]
OUTSIDE = {"benchmarks", "dataset", "demos", "grids", "tests", "train"}
# Optional dependencies: only these may be imported inside a function.
OPTIONAL = {"bitsandbytes", "dac", "gradio", "IPython", "peft", "visqol", "wandb"}


def name_of(path: Path) -> str:
    """Dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    """Index of the layer of a dotted name; `None` for the package itself."""
    parts = module.split(".")
    return next((i for i, layer in enumerate(LAYERS) if parts[1:] and parts[1] in layer), None)


def imported(node: ast.AST, path: Path) -> list[str]:
    """Full dotted names of the modules and names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = name_of(path).split(".")
        if path.name != "__init__.py":
            package = package[:-1]
        package = package[: len(package) - node.level + 1]
        base = ".".join([*package, base] if base else package)
    return [f"{base}.{alias.name}" for alias in node.names]


def all_imports(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(node.lineno, name) for node in ast.walk(tree) for name in imported(node, path)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_from_its_own_layer_or_a_lower_one(path):
    here = layer_of(name_of(path))
    if here is None:
        assert name_of(path) == "audiocraft", f"{path} belongs to no layer"
        here = 0
    higher = [
        f"line {line}: {name}"
        for line, name in all_imports(path)
        if name.startswith("audiocraft.") and (layer_of(name) or 0) > here
    ]
    assert not higher, f"{name_of(path)} imports from a higher layer: {higher}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_package_does_not_import_its_users(path):
    outside = [name for _, name in all_imports(path) if name.split(".")[0] in OUTSIDE]
    assert not outside


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_optional_packages_are_imported_inside_a_function(path):
    inside = [
        f"line {node.lineno}: {name}"  # type: ignore[attr-defined]
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for name in imported(node, path)
        if name.split(".")[0] not in OPTIONAL
    ]
    assert not inside, f"Move these to the top of {name_of(path)}: {inside}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name_of)
def test_init_files_only_re_export(path):
    allowed = (ast.Import, ast.ImportFrom, ast.Assign)
    docstring, *body = ast.parse(path.read_text()).body or [ast.Expr(ast.Constant(""))]
    assert isinstance(docstring, ast.Expr)
    if path.parent == PACKAGE:  # the package itself also installs its former module names
        body = body[:-1]
    for_type_checkers = "if tp.TYPE_CHECKING:"  # names of a package that imports them lazily
    assert all(
        isinstance(node, allowed) or ast.unparse(node).startswith(for_type_checkers)
        for node in body
    )


def test_every_directory_of_the_package_belongs_to_a_layer():
    known = set().union(*LAYERS) | {"__init__", "__pycache__"}
    assert {path.stem for path in PACKAGE.iterdir() if path.name != "py.typed"} <= known


def test_optional_packages_are_not_in_the_standard_library():
    assert not OPTIONAL & set(sys.stdlib_module_names)


LATE = {"transformers.modeling_utils", "torch._dynamo", "scipy", "gradio", "peft"}
COMMANDS = "import sys, audiocraft.train, audiocraft.inference.sample_generator"
BEFORE = f"{COMMANDS}; print({LATE!r} & set(sys.modules))"


@pytest.mark.slow
def test_slow_optional_modules_are_not_imported_at_start():
    options: dict = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    run = subprocess.run([sys.executable, "-c", BEFORE], **options)
    assert run.stdout == "set()\n"
