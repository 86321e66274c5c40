"""Command lines of Dora are checked before Dora runs them."""

from types import SimpleNamespace

import pytest
from dora.conf import DoraConfig

from audiocraft.errors import ConfigError
from audiocraft.launch.dora_command import check_command, is_dora


@pytest.fixture
def main(tmp_path):
    dora = DoraConfig(grid_package="grids")
    dora.dir = tmp_path / "outputs"
    return SimpleNamespace(dora=dora, package="audiocraft")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/venv/bin/dora", "info"], True),
        (["/site-packages/dora/__main__.py", "grid", "two"], True),
        (["/site-packages/pytest/__main__.py"], False),
        (["train.py", "solver=x"], False),
        ([""], False),
    ],
)
def test_only_command_lines_of_dora_are_checked(argv, expected):
    assert is_dora(argv) == expected


def test_a_missing_grid_is_an_error(main):
    with pytest.raises(ConfigError, match=r"no grid 'nope'.*musicgen.musicgen_style_tiny"):
        check_command(main, ["dora", "grid", "--dry_run", "-T", "2", "nope"])


@pytest.mark.parametrize("command", ["info", "launch", "grid musicgen.musicgen_style_tiny"])
def test_folders_that_cannot_be_created_are_an_error(command, main, tmp_path):
    argv = ["dora", *command.split()]
    check_command(main, argv)
    main.dora.dir = tmp_path / "file" / "outputs"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is not a folder"):
        check_command(main, argv)


def test_other_commands_are_not_checked(main, tmp_path):
    main.dora.dir = tmp_path / "file"
    (tmp_path / "file").touch()
    check_command(main, ["dora", "grid"])
    check_command(main, ["dora", "export", "a1b2c3d4"])
