"""Grid files and their errors."""

import itertools
import sys
from types import SimpleNamespace

import pytest
from dora.conf import DoraConfig
from dora.xp import XP
from hydra.errors import HydraException

from audiocraft.errors import ConfigError
from audiocraft.launch.grid_file import load_explorer, read_experiments

HEAD = "from dora import Explorer\n\n@Explorer\ndef explorer(launcher):\n"
numbers = itertools.count()


class Main:
    """Entry point that uses command lines as experiments."""

    package = "nobody"
    _config_groups = ("solver",)

    def __init__(self, package, folder):
        self.dora = DoraConfig(grid_package=package)
        self.dora.dir = folder

    def resolve(self, argv):
        if any(arg.startswith("unknown=") for arg in argv):
            raise HydraException("Could not override 'unknown'.")
        return XP(self.dora, None, list(argv), delta=[tuple(arg.split("=")) for arg in argv])

    def value_to_argv(self, arg):
        return [f"{key}={value}" for key, value in arg.items()]


@pytest.fixture
def grids(tmp_path, monkeypatch):
    """Function that writes a grid file and returns its experiments."""
    package = f"grids_of_a_test_{next(numbers)}"
    (tmp_path / package / "deep").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    main = Main(package, tmp_path)

    def read(text, name="deep.mine"):
        (tmp_path / package / "deep" / "mine.py").write_text(text)
        return read_experiments(main, load_explorer(main, name), name)

    yield read
    for module in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[module]


def test_a_grid_lists_every_experiment_once(grids):
    body = "    for lr in (1, 2, 1):\n        launcher({'lr': lr})\n"
    sheeps, requested = grids(HEAD + body)
    assert [sheep.xp.argv for sheep in sheeps] == [["lr=1"], ["lr=2"]]
    assert requested == 3


def test_bound_settings_apply_to_all_experiments(grids):
    body = "    launcher.slurm_(gpus=8)\n    launcher.bind_({'solver': 'x'})\n"
    body += "    launcher({'lr': 1})\n"
    sheeps, _ = grids(HEAD + body)
    assert sheeps[0].xp.argv == ["solver=x", "lr=1"]


MISTAKES = {
    "a syntax error": ("def explorer(launcher:\n", r"mine.py, line 1: '\(' was never closed"),
    "a wrong import": ("import nothing_of_that_name\n", r"mine.py, line 1: ModuleNotFoundError"),
    "a wrong name": (HEAD + "    launcher({'lr': rate})\n", r"mine.py, line 5: NameError: .*rate"),
    "a wrong option": (HEAD + "    launcher.slurm_(gpu=1)\n", r"line 5: AttributeError: .*gpu"),
    "a wrong override": (
        HEAD + "    launcher({'lr': 1})\n    launcher({'unknown': 2})\n",
        r"cannot be composed: Could not override 'unknown'. \(its settings: unknown=2\)",
    ),
    "no explorer": ("x = 1\n", "defines no grid"),
    "a bare function": ("def explorer(launcher):\n    pass\n", "@LMExplorer"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_location_of_an_error_in_a_grid_is_reported(mistake, grids):
    text, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=message):
        grids(text)


def test_an_unknown_grid_lists_the_existing_ones(grids):
    with pytest.raises(ConfigError, match=r"There is no grid 'other' .* Grids are: deep.mine"):
        grids(HEAD + "    launcher({})\n", name="other")


def test_a_missing_grid_package_is_reported():
    for package in ("no_such_package", "no_such_package.grids"):
        main = SimpleNamespace(dora=DoraConfig(grid_package=package), package="nobody")
        with pytest.raises(ConfigError, match="no_such_package"):
            load_explorer(main, "mine")
