"""The command that serves the page: its options and errors."""

import socket

import pytest

from demos import musicgen_style_app as app


@pytest.fixture
def loaded(monkeypatch):
    """Names of the models that are requested; none is loaded."""
    names = []
    monkeypatch.setattr(app, "load_generator", lambda name, device: names.append(name))
    return names


@pytest.mark.parametrize(
    "flags",
    [
        ["--username", "ada"],
        ["--password", "lovelace"],
        ["--username", "", "--password", ""],
        ["--username", "ada", "--password", ""],
    ],
)
def test_an_incomplete_login_is_refused_before_the_model_is_loaded(flags, loaded, capsys):
    assert app.main(flags) == 1
    assert "Give --username and --password together" in capsys.readouterr().err
    assert loaded == []


def test_an_address_that_is_not_available_is_refused_before_the_model_is_loaded(loaded, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert app.main(["--server_port", port]) == 1
    assert f"127.0.0.1, port {port}" in capsys.readouterr().err
    assert app.main(["--listen", "300.0.0.1"]) == 1
    assert "300.0.0.1" in capsys.readouterr().err
    assert app.main(["--server_port", "99999"]) == 1
    assert "99999" in capsys.readouterr().err
    assert loaded == []


def test_an_unknown_model_is_one_sentence(capsys):
    assert app.main(["--model", "//bundled/nothing"]) == 1
    assert "nothing" in capsys.readouterr().err
