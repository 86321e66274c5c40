"""`python -m audiocraft`: commands, their help, and mistakes in a sentence."""

import pytest

from audiocraft.__main__ import COMMANDS, main
from audiocraft.cli import generate as command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out or name == "manifest"


def test_an_unknown_command_lists_those_that_are_known(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fly"])
    assert stop.value.code == 2
    assert "export" in capsys.readouterr().out


def test_who_interrupts_a_command_is_told_so_without_a_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "main", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["generate"])
    assert stop.value.code == 130
    assert capsys.readouterr().out == "Stopped.\n"
