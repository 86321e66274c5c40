"""Commands on datasets: printed commands are valid, outputs are checked first."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from audiocraft.cli import manifest, prepare, validate
from audiocraft.data.manifest import load_manifest
from audiocraft.errors import ManifestError

from ..data.conftest import write_tone


@pytest.fixture
def music(tmp_path):
    for number in range(4):
        write_tone(tmp_path / f"music/{number}.wav", 1.0 + number)
    return tmp_path / "music"


@pytest.mark.parametrize("name", ["My Music (2024), vol=1", "Música", "it's #1", "plain"])
def test_the_printed_command_can_be_pasted(music, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    prepare.main([str(music), name, "--by", "track", "--workers", "0"])
    (line,) = [s for s in capsys.readouterr().out.splitlines() if "dora run" in s]
    overrides = shlex.split(line.partition("dora run ")[2])[1:]
    parsed = OverridesParser.create().parse_overrides(overrides)
    sources = {override.key_or_group: override.value() for override in parsed}
    monkeypatch.chdir("/")
    assert set(sources) == {f"datasource.{s}" for s in ("train", "valid", "evaluate", "generate")}
    for source in sources.values():
        path = source.with_quotes()[1:-1] if hasattr(source, "with_quotes") else source
        assert load_manifest(path.replace("\\'", "'"))


def test_outputs_are_checked_before_files_are_read(music, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(manifest, "find_audio_files", None)
    with pytest.raises(ManifestError, match=r"file/x\.jsonl cannot be written"):
        manifest.main([str(music), str(tmp_path / "file/x.jsonl")])
    with pytest.raises(ManifestError, match="file is a file"):
        prepare.main([str(music), str(tmp_path / "file")])
    assert validate.main([str(music), "--json", "/proc/x.json"]) == 2
    assert "/proc/x.json cannot be written" in capsys.readouterr().err
