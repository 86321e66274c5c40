import gzip
import json
import os
import zipfile

import pytest

from audiocraft.cli import manifest as command
from audiocraft.data import audio_dataset, manifest
from audiocraft.data.io.files import list_audio_files
from audiocraft.data.manifest import (
    AudioMeta,
    find_audio_files,
    find_manifest,
    load_manifest,
    read_audio_meta,
    save_manifest,
)
from audiocraft.data.resume_log import ResumeLog
from audiocraft.errors import ManifestError

from .conftest import write_tone

LINE = {"path": "/a.wav", "duration": 1.5, "sample_rate": 8000}


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts))
    return path


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_a_saved_manifest_is_loaded_by_file_or_by_folder(tmp_path, name):
    metas = [
        AudioMeta("/a.wav", 1.5, 8000, 0.5, 2.0, "/b.json"),
        AudioMeta("/ü.zip:x.mp3", 3.0, 44100),
    ]
    save_manifest(tmp_path / "new" / name, metas)
    assert load_manifest(tmp_path / "new" / name) == metas
    assert load_manifest(tmp_path / "new") == metas
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_a_manifest_is_written_reproducibly(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        save_manifest(tmp_path / name, [AudioMeta(**LINE)])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_unknown_keys_and_empty_lines_are_skipped(tmp_path):
    write_lines(tmp_path / "data.jsonl", LINE | {"new": 1}, "", LINE, "")
    assert load_manifest(tmp_path) == [AudioMeta(**LINE)] * 2


def test_relative_paths_start_from_the_current_or_the_manifest_folder(tmp_path, monkeypatch):
    write_tone(tmp_path / "music" / "a.wav")
    manifest = write_lines(
        tmp_path / "egs/x/data.jsonl", LINE | {"path": "music/a.wav", "info_path": "music/b.json"}
    )
    monkeypatch.chdir(tmp_path)
    assert load_manifest(manifest)[0].path == "music/a.wav"
    monkeypatch.chdir("/")
    (meta,) = load_manifest(manifest)
    assert meta.path == str(tmp_path / "music/a.wav")
    assert meta.info_path == str(tmp_path / "music/b.json")


def write_manifest(path, names) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"path": name, "duration": 1.0, "sample_rate": 8000} for name in names]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def paths_of(manifest) -> list[str]:
    return [meta.path for meta in load_manifest(manifest)]


def touch(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_missing_file_does_not_change_the_paths_of_others(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    touch(tmp_path / "set/audio/b.wav", tmp_path / "set/audio/c.wav")
    write_manifest(tmp_path / "set/egs/data.jsonl", ["audio/a.wav", "audio/b.wav", "audio/c.wav"])
    expected = [str(tmp_path / f"set/audio/{name}.wav") for name in "abc"]
    assert paths_of(tmp_path / "set/egs") == expected


def test_the_manifest_folder_takes_precedence_over_the_current_one(tmp_path, monkeypatch, caplog):
    touch(tmp_path / "set/audio/a.wav", tmp_path / "other/audio/a.wav", tmp_path / "other/b.wav")
    write_manifest(tmp_path / "set/data.jsonl", ["audio/a.wav", "b.wav"])
    monkeypatch.chdir(tmp_path / "other")
    assert paths_of(tmp_path / "set") == [str(tmp_path / "set/audio/a.wav"), "b.wav"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "set/audio/a.wav") in message
    assert str(tmp_path / "other") in message


def test_each_path_is_resolved_separately(tmp_path, monkeypatch, caplog):
    touch(tmp_path / "set/audio/a.wav", tmp_path / "audio/b.wav", tmp_path / "here/audio/c.wav")
    write_manifest(tmp_path / "set/data.jsonl", [f"audio/{name}.wav" for name in "abc"])
    monkeypatch.chdir(tmp_path / "here")
    expected = [tmp_path / "set/audio/a.wav", tmp_path / "audio/b.wav", "audio/c.wav"]
    assert paths_of(tmp_path / "set") == [str(path) for path in expected]
    assert not caplog.records


def test_paths_are_mapped_to_this_machine(tmp_path):
    write_lines(tmp_path / "data.jsonl", LINE | {"info_path": "/a.json"})
    (meta,) = load_manifest(tmp_path, lambda path: "/here" + path)
    assert (meta.path, meta.info_path) == ("/here/a.wav", "/here/a.json")


@pytest.mark.parametrize("source", ["egs/nowhere", "egs/nowhere.jsonl"])
def test_a_missing_manifest_names_the_command_that_writes_it(source):
    with pytest.raises(ManifestError, match=rf"{source}.*python -m audiocraft manifest"):
        find_manifest(source)


def test_a_folder_without_a_manifest_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(ManifestError, match=rf"{tmp_path} contains no data\.jsonl.*python -m"):
        load_manifest(tmp_path)


BAD_LINES = {
    "no json": "{",
    "not one object": "[1]",
    "a null": "null",
    "no path": '{"duration": 1, "sample_rate": 1}',
    "a path of another type": json.dumps(LINE | {"path": 3}),
    "a duration of another type": json.dumps(LINE | {"duration": [1]}),
    "a rate without end": '{"path": "a", "duration": 1, "sample_rate": Infinity}',
    "a negative weight": json.dumps(LINE | {"weight": -1}),
    "a weight of another type": json.dumps(LINE | {"weight": "much"}),
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_the_error_names_an_invalid_line(tmp_path, kind):
    write_lines(tmp_path / "data.jsonl", LINE, BAD_LINES[kind])
    with pytest.raises(ManifestError, match=r"data\.jsonl, line 2"):
        load_manifest(tmp_path)


def test_an_empty_manifest_is_reported(tmp_path):
    write_lines(tmp_path / "data.jsonl", "", "")
    with pytest.raises(ManifestError, match="lists no audio file"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"text", lambda b: b""])
def test_a_truncated_archive_is_reported(tmp_path, damage):
    content = gzip.compress(json.dumps(LINE).encode() * 100)
    (tmp_path / "data.jsonl.gz").write_bytes(damage(content))
    with pytest.raises(ManifestError, match=r"data\.jsonl\.gz"):
        load_manifest(tmp_path)


# From a folder.


def test_a_folder_is_searched_in_a_stable_order(tmp_path):
    for name in ("b/2.wav", "a/1.flac", "c.OGG", "a/0.mp3"):
        write_tone(tmp_path / name, 1.0, rate=16000, format=name.rsplit(".")[-1].upper())
    (tmp_path / "notes.txt").write_text("no audio")
    metas = find_audio_files(tmp_path, workers=3)
    assert [os.path.relpath(meta.path, tmp_path) for meta in metas] == [
        "a/0.mp3", "a/1.flac", "b/2.wav", "c.OGG",
    ]  # fmt: skip
    assert all(meta.duration == pytest.approx(1.0) for meta in metas)
    assert all(meta.sample_rate == 16000 for meta in metas)
    assert all(meta.amplitude is None for meta in metas)


def test_the_amplitude_is_measured_unless_minimal(tmp_path):
    write_tone(tmp_path / "a.wav")
    (meta,) = find_audio_files(tmp_path, minimal=False)
    assert meta.amplitude == pytest.approx(0.4, abs=1e-3)


def test_paths_are_unchanged_unless_resolved(tmp_path, monkeypatch):
    write_tone(tmp_path / "music/a.wav")
    monkeypatch.chdir(tmp_path)
    assert find_audio_files("music")[0].path == "music/a.wav"
    assert find_audio_files("music", resolve=True)[0].path == str(tmp_path / "music/a.wav")


def test_unreadable_files_are_skipped_and_named(tmp_path, caplog):
    write_tone(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"")
    assert [meta.path for meta in find_audio_files(tmp_path)] == [str(tmp_path / "a.wav")]
    assert "b.wav" in caplog.text


@pytest.mark.parametrize("minimal", [True, False])
def test_an_interrupted_search_resumes(tmp_path, monkeypatch, minimal):
    for number in range(6):
        write_tone(tmp_path / f"music/{number}.wav", 1.0 + number)
    (tmp_path / "music/bad.wav").write_text("no music")
    expected = find_audio_files(tmp_path / "music", minimal=minimal)
    described = []

    def describe(path, minimal):
        if len(described) == 4:
            raise KeyboardInterrupt
        described.append(path)
        return read_audio_meta(path, minimal)

    monkeypatch.setattr(manifest, "read_audio_meta", describe)
    options = {"minimal": minimal, "workers": 1}
    with pytest.raises(KeyboardInterrupt), ResumeLog(tmp_path / "data.jsonl") as resume_log:
        find_audio_files(tmp_path / "music", **options, resume_log=resume_log)
    seen, described = described, []
    with ResumeLog(tmp_path / "data.jsonl") as resume_log:
        assert find_audio_files(tmp_path / "music", **options, resume_log=resume_log) == expected
    assert set(seen).isdisjoint(set(described) - {tmp_path / "music/bad.wav"})
    assert [path.name for path in tmp_path.iterdir()] == ["music"]


@pytest.mark.parametrize("resolve", [False, True])
def test_an_archive_is_searched_like_a_folder(tmp_path, monkeypatch, resolve):
    write_tone(tmp_path / "a.wav", 1.5)
    with zipfile.ZipFile(tmp_path / "music.zip", "w") as archive:
        archive.write(tmp_path / "a.wav", "album/a.wav")
    monkeypatch.chdir(tmp_path)
    (meta,) = find_audio_files("music.zip", minimal=False, resolve=resolve)
    assert meta.path == f"{tmp_path}/" * resolve + "music.zip:album/a.wav"
    assert (meta.duration, meta.sample_rate) == (1.5, 8000)
    assert meta.amplitude == pytest.approx(0.4, abs=1e-3)


def test_an_invalid_archive_is_reported(tmp_path):
    (tmp_path / "music.zip").write_text("no archive")
    with pytest.raises(ManifestError, match=r"music\.zip is not a zip archive"):
        find_audio_files(tmp_path / "music.zip")


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.wav")
    os.rename(write_tone(tmp_path / "a.wav").path, name)
    save_manifest(tmp_path / "data.jsonl", find_audio_files(tmp_path))
    assert [meta.path for meta in load_manifest(tmp_path)] == [name]


def run(*argv) -> int | str | None:
    """Run the command; returns its exit status."""
    try:
        audio_dataset.main([str(arg) for arg in argv])
    except SystemExit as end:
        return end.code
    return 0


def test_the_command_writes_the_manifest_of_a_folder(tmp_path, capsys):
    write_tone(tmp_path / "music/a.wav", 36.0)
    assert run(tmp_path / "music", tmp_path / "egs/data.jsonl.gz") == 0
    assert "1 file, 0.01 hours" in capsys.readouterr().out
    assert [meta.duration for meta in load_manifest(tmp_path / "egs")] == [36.0]
    assert run(tmp_path / "music", tmp_path / "egs", "--complete", "--resolve") == 0
    (meta,) = load_manifest(tmp_path / "egs/data.jsonl")
    assert meta.amplitude == pytest.approx(0.4, abs=1e-3)


def test_the_command_reports_errors(tmp_path):
    assert "nowhere does not exist" in str(run(tmp_path / "nowhere", tmp_path / "data.jsonl"))
    assert not list(tmp_path.iterdir())


def test_the_interrupted_command_logs_how_to_resume(tmp_path, monkeypatch, capsys):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "find_audio_files", stop)
    assert run(tmp_path, tmp_path / "data.jsonl") == 130
    assert "resumes" in capsys.readouterr().out


def test_circular_links_end(tmp_path):
    write_tone(tmp_path / "music/a.wav")
    (tmp_path / "music/up").symlink_to(tmp_path)
    assert list_audio_files(tmp_path) == [tmp_path / "music/a.wav"]


@pytest.mark.parametrize("files", [[], ["bad.wav"]])
def test_a_folder_without_music_is_reported(tmp_path, files):
    for name in files:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ManifestError, match="no readable audio file"):
        find_audio_files(tmp_path)
    with pytest.raises(ManifestError, match="nowhere does not exist"):
        find_audio_files(tmp_path / "nowhere")
