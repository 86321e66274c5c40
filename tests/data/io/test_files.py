import os
import zipfile

import pytest

from audiocraft.data.io.files import (
    exists,
    list_audio_files,
    open_binary,
    save_json,
    split_member,
)


def content(path) -> bytes:
    with open_binary(path) as file:
        return file.read()


def test_a_member_is_split_off():
    assert split_member("a/b.zip:c/d.mp3") == ("a/b.zip", "c/d.mp3")
    assert split_member("a/b.zip") == ("a/b.zip", None)
    assert split_member("a/b.mp3") == ("a/b.mp3", None)


def test_a_file_named_like_an_archive_member_is_a_file(tmp_path):
    (tmp_path / "a.zip:b").write_bytes(b"x")
    assert content(tmp_path / "a.zip:b") == b"x"


def test_members_and_files_are_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.txt", "hello")
    assert exists(tmp_path / "a.zip")
    assert exists(f"{tmp_path}/a.zip:b.txt")
    assert content(f"{tmp_path}/a.zip:b.txt") == b"hello"
    assert not exists(f"{tmp_path}/a.zip:c.txt")
    assert not exists(f"{tmp_path}/c.zip:b.txt")
    assert not exists(tmp_path / "c")


def test_a_changed_archive_is_reopened(tmp_path):
    for text in ("one", "three"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("b.txt", text)
        assert content(f"{tmp_path}/a.zip:b.txt") == text.encode()


def test_a_file_that_is_not_an_archive_raises_an_error(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(OSError, match="not a zip archive"):
        open_binary(f"{tmp_path}/a.zip:b")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe"),
        ("/dev/zero", "a pipe"),
    ):
        with pytest.raises(OSError, match=kind):
            open_binary(path)


def test_audio_files_of_archives_and_folders_are_listed_alike(tmp_path):
    names = ("b/2.mp3", "a.WAV", "b/.hidden.wav", "b/notes.txt", ".DS_Store")
    with zipfile.ZipFile(tmp_path / "music.zip", "w") as archive:
        for name in names:
            (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "music" / name).write_text("")
            archive.writestr(name, "")
    expected = ["a.WAV", "b/2.mp3"]
    folder, archive = tmp_path / "music", tmp_path / "music.zip"
    assert [str(path.relative_to(folder)) for path in list_audio_files(folder)] == expected
    assert [str(path) for path in list_audio_files(archive)] == [f"{archive}:{n}" for n in expected]


def test_the_order_does_not_depend_on_links(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "z/a.wav").write_text("")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert list_audio_files(tmp_path) == [tmp_path / "z/a.wav"]


def test_json_is_written_to_a_new_folder(tmp_path):
    save_json(tmp_path / "new/a.json", {"a": 1})
    assert content(tmp_path / "new/a.json") == b'{\n  "a": 1\n}\n'
    assert len(list((tmp_path / "new").iterdir())) == 1
