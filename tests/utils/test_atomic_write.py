"""Atomic writes: the target holds the old or the new content, and no temporary file is left."""

import os
import stat
import sys

import pytest

from audiocraft.utils.atomic_write import (
    TEMPORARY_FILES,
    atomic_file,
    atomic_path,
    fsync_folder,
    write_bytes,
    write_text,
)


def test_target_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.glob(TEMPORARY_FILES))) == 1
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exists", [True, False])
def test_exception_leaves_the_target_unchanged(tmp_path, exists):
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old")

    def fail():
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if exists else [])


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127 + "x"])
def test_name_at_the_limit_of_the_file_system_works(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text(encoding="utf-8") == "text"


def test_library_may_open_the_temporary_path_or_replace_it(tmp_path):
    with atomic_path(tmp_path / "file") as temporary:
        temporary.unlink()
        temporary.write_bytes(b"by a library")
    assert (tmp_path / "file").read_bytes() == b"by a library"


def test_missing_folder_raises_before_the_block_and_names_the_target(tmp_path):
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as error, atomic_file(path):
        pytest.fail("the block must not run")
    assert error.value.filename == str(path)


def test_folder_as_target_raises_before_the_block(tmp_path):
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path):
        pytest.fail("the block must not run")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_device_or_pipe_is_written_and_kept(tmp_path):
    write_bytes("/dev/null", b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "file", "é\r\n\n")
    assert (tmp_path / "file").read_bytes() == "é\r\n\n".encode()


def test_fsync_covers_file_and_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    write_bytes(tmp_path / "file", b"content", fsync=True)
    fsync_folder(tmp_path)
    assert [stat.S_ISDIR(s.st_mode) for s in synced] == [False, True, True]
