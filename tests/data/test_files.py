import zipfile

import pytest

from audiocraft.data.files import exists, open_binary, split_member


def content(path) -> bytes:
    with open_binary(path) as file:
        return file.read()


def test_a_member_is_split_off():
    assert split_member("a/b.zip:c/d.mp3") == ("a/b.zip", "c/d.mp3")
    assert split_member("a/b.zip") == ("a/b.zip", None)
    assert split_member("a/b.mp3") == ("a/b.mp3", None)


def test_a_file_that_is_called_like_a_member_is_a_file(tmp_path):
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


def test_an_archive_that_changed_is_opened_anew(tmp_path):
    for text in ("one", "three"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("b.txt", text)
        assert content(f"{tmp_path}/a.zip:b.txt") == text.encode()


def test_what_is_no_archive_is_an_error_of_the_file(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(OSError, match="no zip archive"):
        open_binary(f"{tmp_path}/a.zip:b")
