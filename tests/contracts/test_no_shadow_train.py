"""`dora run`, `python train.py` and `python -m audiocraft.train` are one experiment."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_exactly_one_package_holds_the_training_script():
    """Dora takes the first package it finds that has a `train.py`."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {name for name in packages if (ROOT / name / "train.py").exists()} == {"audiocraft"}


def test_the_launcher_only_imports_the_script():
    docstring, imports, guard = ast.parse((ROOT / "train.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imports) == "from audiocraft.train import main"
    assert ast.unparse(guard) == "if __name__ == '__main__':\n    main()"
