"""Command line: command table, help, errors."""

import sys

import pytest

from audiocraft.cli import generate as command
from audiocraft.cli.main import ALIASES, COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name, capsys):
    if name == "demo":
        pytest.importorskip("gradio")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out


def test_without_a_command_all_are_listed(capsys):
    main([])
    listed = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == listed
    assert all(name in listed for name in COMMANDS)


def test_an_unknown_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fly"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "'fly'" in error
    assert "export" in error


def test_former_names_of_commands_are_accepted(capsys):
    for former, name in ALIASES.items():
        with pytest.raises(SystemExit):
            main([former, "--help"])
        assert name in capsys.readouterr().out


def test_an_interrupted_command_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "main", interrupted)
    monkeypatch.setattr(sys, "argv", ["audiocraft", "generate"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert capsys.readouterr().out.startswith("Stopped.")
