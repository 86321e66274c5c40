"""Ingest: copy or link the audio of tracks into a folder, and determine the group of each track."""

import errno
import io
import os
import re
import shutil
import typing as tp
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import ManifestError
from ...utils.atomic_write import atomic_file
from ..io.files import open_binary
from ..music_info import read_string
from .sources import Track

TRACK_FIELDS = ("artist", "track", "piece")  # `piece` is the former spelling of `track`
GUEST = re.compile(r"\s*[(\[]?\b(feat\.?|ft\.?|featuring)\s.*$")  # guest artists after a name
MAX_STEM = 240  # bytes; with a number and .json a name stays below 255
BLOCK = 2**20  # bytes compared at once
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # affect every file


@dataclass(frozen=True, kw_only=True)
class IngestedTrack:
    """A track whose audio is in the folder of the data set."""

    name: str  # file, relative to the folder of the audio
    origin: str  # where it comes from, for messages
    fields: dict[str, tp.Any]  # metadata
    ignored: list[str]  # fields of an unsupported type, with the reason
    group: str | None  # tracks of a group stay in one split; None if unknown


class AudioFolder:
    """A folder of audio files with unique names.

    Args:
        folder: Its path.
        link: Create hard links instead of copies, where the file system allows it.
        by: Field that defines groups: `artist`, `track`, `folder`, or a column of the source.
    """

    def __init__(self, folder: Path, link: bool, by: str):
        self.folder = folder
        self.link = link
        self.by = by
        self.columns: set[str] = set()  # of all tracks
        self._stems: set[str] = set()

    def add(self, track: Track) -> IngestedTrack:
        """Copy or link the audio of a track, unless an earlier call did.

        Raises:
            OSError: The audio cannot be read or written.
            ManifestError: Another file has its name, or no file can be written to this folder.
        """
        self.columns |= set(track.row)
        target = self.folder / (name := self._unique_name(track.name))
        if isinstance(track.audio, bytes):
            _copy(io.BytesIO(track.audio), target)
        else:
            with open_binary(track.audio) as content:
                if not (self.link and _link(content, target)):
                    _copy(content, target)
        group = group_of(track, self.by)
        return IngestedTrack(
            name=name,
            origin=track.origin,
            fields=track.fields,
            ignored=track.ignored,
            group=group,
        )

    def _unique_name(self, name: str) -> str:
        """A name whose stem is unique, so that the JSON file beside it is as well."""
        path = PurePosixPath(name)
        short = _shorten(path.stem, MAX_STEM)
        stem, count = path.with_name(short), 1
        while (key := unicodedata.normalize("NFC", str(stem)).lower()) in self._stems:
            count += 1
            stem = path.with_name(f"{short}_{count}")
        self._stems.add(key)
        return f"{stem}{path.suffix}"


def _shorten(name: str, num_bytes: int) -> str:
    """Truncate a file name to a number of bytes, between characters."""
    encoded = os.fsencode(name)
    if len(encoded) <= num_bytes:
        return name
    return encoded[:num_bytes].decode("utf-8", "ignore")


def _link(content: tp.BinaryIO, target: Path) -> bool:
    """Link `target` to the file that `content` reads; returns whether it is that file now."""
    source = content.name if isinstance(content, io.BufferedReader) else None
    if source is None or target.exists():
        return source is not None and os.path.samefile(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system, or one without links
        return False
    return True


def _copy(content: tp.BinaryIO, target: Path) -> None:
    if target.exists():
        if not _is_equal(content, target):
            raise ManifestError(
                f"{target} exists with other content. Choose an empty folder, or one that was "
                "written by an earlier call with the same source."
            )
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as file:
            shutil.copyfileobj(content, file, BLOCK)
    except OSError as error:
        if error.errno in FATAL_ERRORS:
            raise ManifestError(f"{target} cannot be written: {error.strerror}.") from None
        raise


def _is_equal(content: tp.BinaryIO, target: Path) -> bool:
    with open(target, "rb") as other:
        while True:
            one, two = content.read(BLOCK), other.read(BLOCK)
            if one != two:
                return False
            if not one:
                return True


def group_of(track: Track, by: str) -> str | None:
    """The group of a track; `None` if the metadata does not define it.

    Names are compared without case, repeated spaces and Unicode form (NFC or NFD). A guest artist
    (`Ann feat. Bob`) does not make another artist.

    Args:
        track: The track.
        by: `artist`; `track` (artist and title), which is also used without an artist; or a column
            of the source, such as `folder`.
    """
    if by not in TRACK_FIELDS:
        return _comparable(track.fields.get(by) or track.row.get(by))
    artist, title = (_comparable(track.fields.get(field)) for field in ("artist", "title"))
    artist = artist and (GUEST.sub("", artist) or artist)
    if by == "artist" and artist:
        return f"artist {artist}"
    # Group names seed the draw of splits: "piece" keeps the splits of earlier versions.
    return f"piece {artist or ''}: {title}" if title else None


def _comparable(value: tp.Any) -> str | None:
    """One spelling of a name, for comparison; `None` if empty."""
    try:
        text = read_string(value)
    except TypeError:
        text = str(value)
    return None if text is None else " ".join(unicodedata.normalize("NFC", text).casefold().split())
