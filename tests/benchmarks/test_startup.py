import json

import pytest

from benchmarks import startup


@pytest.mark.slow
def test_every_command_starts_and_is_measured(tmp_path, capsys):
    startup.main(["--rounds", "1", "--json", str(tmp_path / "figures.json")])
    seconds = json.loads((tmp_path / "figures.json").read_text())["seconds"]
    printed = capsys.readouterr().out
    for name in startup.COMMANDS:
        ((clock, cpu),) = seconds[name]
        assert cpu > 0
        assert clock > 0
        assert name in printed
