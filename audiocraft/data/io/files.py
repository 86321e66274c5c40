"""Files: find and open files on disk or in a zip archive, such as `music.zip:album/song.mp3`.

Zip members are read into memory by their exact name; nothing is unpacked to disk. Only regular
files are opened: reading from a pipe or a device named in a manifest would block forever.
"""

import io
import json
import logging
import os
import stat
import tempfile
import typing as tp
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from ...errors import ManifestError
from ...utils.atomic_write import write_text

logger = logging.getLogger(__name__)

EXTENSIONS = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff")
MEMBER_MARK = ".zip:"
MAX_MEMBER_SIZE = 2**31  # bytes; larger members are refused, since they are read into memory


def split_member(path: str | Path) -> tuple[str, str | None]:
    """Split a path into the file on disk and the name of the zip member, if any."""
    name = str(path)
    archive, mark, member = name.partition(MEMBER_MARK)
    if not mark or not member or os.path.exists(name):
        return name, None
    return archive + ".zip", member


@lru_cache(maxsize=8)
def _archive(path: str, modified: int, process: int) -> zipfile.ZipFile:
    """Open archive, cached per process: forked processes must not share a file position."""
    return zipfile.ZipFile(path)


def _open_archive(path: str) -> zipfile.ZipFile:
    try:
        return _archive(path, _regular(path).st_mtime_ns, os.getpid())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise OSError(f"{path} is not a zip archive: {error}") from None


def _member(archive: str, name: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    opened = _open_archive(archive)
    try:
        return opened, opened.getinfo(name)
    except KeyError:
        raise FileNotFoundError(f"{archive} has no member {name}") from None


def _regular(path: str) -> os.stat_result:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise OSError(f"it is {kind}, not a file")
    return found


def open_binary(path: str | Path) -> tp.BinaryIO:
    """Open a file or a zip member for reading bytes.

    Raises:
        OSError: It does not exist, is not a regular file, cannot be read, or is a member of more
            than `MAX_MEMBER_SIZE` bytes.
    """
    file, member = split_member(path)
    if member is None:
        _regular(file)
        return open(file, "rb")
    opened, info = _member(file, member)
    if info.file_size > MAX_MEMBER_SIZE:
        raise OSError(f"{path} has {info.file_size} bytes; zip members may have {MAX_MEMBER_SIZE}")
    try:
        return io.BytesIO(opened.read(info))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise OSError(f"{path} cannot be decompressed: {error}") from None


def save_json(path: str | Path, content: tp.Any) -> None:
    """Write indented JSON atomically; its folder is created."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_writable(path: str | Path) -> None:
    """Check that a file can be written, before its content is computed; its folder is created.

    Raises:
        ManifestError: It cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if os.path.exists(path) and not os.path.isfile(path):
            open(path, "ab").close()  # a folder, or a device such as /dev/stdout
        else:
            _create_temporary(Path(path).parent)
    except OSError as error:
        reason = error.strerror or error
        raise ManifestError(
            f"{path} cannot be written: {reason}. Choose a file in a folder that you can write to."
        ) from None


def _create_temporary(folder: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    os.close(descriptor)
    os.unlink(name)


def exists(path: str | Path) -> bool:
    """Whether a file or a zip member exists."""
    file, member = split_member(path)
    if member is None:
        return os.path.isfile(file)
    try:
        _member(file, member)
    except OSError:
        return False
    return True


def is_audio_name(name: str | Path, exts: tp.Sequence[str] = EXTENSIONS) -> bool:
    """Whether a name has the extension of an audio file."""
    return str(name).lower().endswith(tuple(ext.lower() for ext in exts))


def list_audio_files(folder: str | Path, exts: tp.Sequence[str] = EXTENSIONS) -> list[Path]:
    """List all audio files below a folder or in a zip archive, sorted.

    Links are followed, without cycles; hidden files are left out.

    Raises:
        OSError: The archive cannot be read.
    """
    if os.path.isfile(folder):
        names = _open_archive(str(folder)).namelist()
        found = [Path(f"{folder}:{name}") for name in names]
    else:
        found = list(_walk(folder))
    return sorted(
        path for path in found if is_audio_name(path, exts) and not path.name.startswith(".")
    )


def _walk(folder: str | Path) -> tp.Iterator[Path]:
    def report(error: OSError) -> None:
        logger.warning("%s is left out, it cannot be listed: %s.", error.filename, error.strerror)

    seen = set()
    for parent, folders, files in os.walk(folder, onerror=report, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort(key=lambda name: (os.path.islink(os.path.join(parent, name)), name))
        yield from (Path(parent, name) for name in files)
