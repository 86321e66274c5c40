"""Opening files that may lie inside a zip archive, as in `music.zip:album/song.mp3`.

Members are read into memory by their exact name; nothing is ever unpacked to disk.
"""

import io
import os
import typing as tp
import zipfile
from functools import lru_cache
from pathlib import Path

MEMBER_MARK = ".zip:"
MAX_MEMBER_SIZE = 2**31  # bytes; a larger one would not be read into memory as a whole


def split_member(path: str | Path) -> tuple[str, str | None]:
    """Split a path into the file on disk and the member of a zip archive, if one is named."""
    name = str(path)
    archive, mark, member = name.partition(MEMBER_MARK)
    if not mark or not member or os.path.exists(name):
        return name, None
    return archive + ".zip", member


@lru_cache(maxsize=8)
def _archive(path: str, modified: int, process: int) -> zipfile.ZipFile:
    """An archive kept open; forked processes must not share a file position."""
    return zipfile.ZipFile(path)


def _member(archive: str, name: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    try:
        opened = _archive(archive, os.stat(archive).st_mtime_ns, os.getpid())
        return opened, opened.getinfo(name)
    except KeyError:
        raise FileNotFoundError(f"{archive} has no member {name}") from None
    except zipfile.BadZipFile as error:
        raise OSError(f"{archive} is no zip archive: {error}") from None


def open_binary(path: str | Path) -> tp.BinaryIO:
    """Open a file, or a member of a zip archive, for reading bytes.

    Raises:
        OSError: It does not exist, cannot be read, or is too large a member.
    """
    file, member = split_member(path)
    if member is None:
        return open(file, "rb")
    opened, info = _member(file, member)
    if info.file_size > MAX_MEMBER_SIZE:
        raise OSError(f"{path} would take {info.file_size} bytes of memory")
    try:
        return io.BytesIO(opened.read(info))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise OSError(f"{path} cannot be unpacked: {error}") from None


def exists(path: str | Path) -> bool:
    """Whether a file, or a member of a zip archive, is there."""
    file, member = split_member(path)
    if member is None:
        return os.path.isfile(file)
    try:
        _member(file, member)
    except OSError:
        return False
    return True
