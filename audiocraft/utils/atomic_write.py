"""Atomic writes: a file appears complete under its name, or the previous one stays.

Content goes to a temporary file in the same folder, which then replaces the target. Its name is
short, so that targets of up to 255 bytes work, and unique across processes and hosts. It begins
with a dot and ends in `.part`; a killed process leaves it behind.
"""

import contextlib
import os
import secrets
import typing as tp
from pathlib import Path

TEMPORARY_FILES = ".*.part"  # glob pattern of what a killed process leaves behind


@contextlib.contextmanager
def atomic_path(path: str | Path, *, fsync: bool = False) -> tp.Iterator[Path]:
    """Replace `path` on success with what the block has written to the temporary path.

    For libraries that open files themselves; otherwise prefer `atomic_file`. An existing target
    that is not a regular file, such as `/dev/stdout`, is written to directly.

    Args:
        path: The target; its folder must exist.
        fsync: Flush the file and its folder to disk, so that they survive a power failure.

    Yields:
        The path to write to. The temporary file exists already, so that a folder without write
        permission is an error before anything is computed.

    Raises:
        OSError: The file cannot be written. The error names the target, which is unchanged.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file.")
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        temporary.open("xb").close()
        yield temporary
        if fsync:
            _fsync(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if fsync:
            fsync_folder(path.parent)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: str | Path, *, fsync: bool = False) -> tp.Iterator[tp.BinaryIO]:
    """Open a binary file that replaces `path` once the block has succeeded.

    Arguments and errors as for `atomic_path`.
    """
    with atomic_path(path, fsync=fsync) as temporary, open(temporary, "wb") as file:
        yield file


def write_bytes(path: str | Path, content: bytes, *, fsync: bool = False) -> None:
    """Write `content` to `path` atomically."""
    with atomic_file(path, fsync=fsync) as file:
        file.write(content)


def write_text(path: str | Path, text: str, *, fsync: bool = False) -> None:
    """Write `text` to `path` atomically, as UTF-8 with its line ends as they are."""
    write_bytes(path, text.encode(), fsync=fsync)


def fsync_folder(folder: str | Path) -> None:
    """Flush the entries of a folder to disk; Windows cannot and need not."""
    if os.name != "nt":
        _fsync(folder, os.O_RDONLY)


def _fsync(path: str | Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
