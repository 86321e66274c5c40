"""Where the audio of a data set goes, and what each file belongs to."""

import errno
import io
import os
import shutil
import typing as tp
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import ManifestError
from ..io.files import open_binary, replacing
from .sources import Track

BLOCK = 2**20  # bytes compared at once
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # no other file fares better


@dataclass(frozen=True, kw_only=True)
class IngestedTrack:
    """A piece whose audio lies in the data set."""

    name: str  # relative to the folder of the audio
    origin: str  # where it comes from, for people
    fields: dict[str, tp.Any]  # what is known about it
    group: str | None  # what it belongs to; None if nothing says so


class AudioFolder:
    """A folder of audio files, each with a name that no other has.

    Args:
        folder: Where it is.
        link: Make hard links instead of copies, where the disk allows it.
        by: What belongs together: `artist`, `piece`, `folder`, or a column of the source.
    """

    def __init__(self, folder: Path, link: bool, by: str):
        self.folder = folder
        self.link = link
        self.by = by
        self.columns: set[str] = set()  # all that pieces had
        self._stems: set[str] = set()

    def put(self, piece: Track) -> IngestedTrack:
        """Bring the audio of a piece here, unless it is here already.

        Raises:
            OSError: It cannot be read or written.
            ManifestError: Something else has its name, from another call, or the disk is full.
        """
        self.columns |= set(piece.row)
        target = self.folder / (name := self._own_name(piece.name))
        if isinstance(piece.audio, bytes):
            _put(io.BytesIO(piece.audio), target)
        else:
            with open_binary(piece.audio) as content:
                if not (self.link and _link(content, target)):
                    _put(content, target)
        group = group_of(piece, self.by)
        return IngestedTrack(name=name, origin=piece.origin, fields=piece.fields, group=group)

    def _own_name(self, name: str) -> str:
        """A name whose JSON file is nobody else's either."""
        path = PurePosixPath(name)
        stem, count = path.with_suffix(""), 1
        while str(stem).lower() in self._stems:
            count += 1
            stem = path.with_name(f"{path.stem}_{count}")
        self._stems.add(str(stem).lower())
        return f"{stem}{path.suffix}"


def _link(content: tp.BinaryIO, target: Path) -> bool:
    """Whether `target` is now the very file that `content` reads."""
    source = content.name if isinstance(content, io.BufferedReader) else None
    if source is None or target.exists():
        return source is not None and os.path.samefile(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk, or one without links
        return False
    return True


def _put(content: tp.BinaryIO, target: Path) -> None:
    if target.exists():
        if not _same(content, target):
            raise ManifestError(
                f"{target} exists and holds something else. Name a folder that is empty, or that "
                "an earlier call made from the same music."
            )
        return
    try:
        with replacing(target) as file:
            shutil.copyfileobj(content, file, BLOCK)
    except OSError as error:
        if error.errno in HOPELESS:
            raise ManifestError(f"{target} cannot be written: {error.strerror}.") from None
        raise


def _same(content: tp.BinaryIO, target: Path) -> bool:
    with open(target, "rb") as other:
        while True:
            one, two = content.read(BLOCK), other.read(BLOCK)
            if one != two:
                return False
            if not one:
                return True


def group_of(piece: Track, by: str) -> str | None:
    """What a piece belongs to; `None` where nothing says so.

    Args:
        piece: The piece.
        by: `artist`, or `piece` (its artist and title), which is also taken where there is no
            artist; or a column of the source such as `folder`.
    """
    if by not in ("artist", "piece"):
        return _spelled(piece.fields.get(by) or piece.row.get(by))
    artist, title = (_spelled(piece.fields.get(field)) for field in ("artist", "title"))
    if by == "artist" and artist:
        return f"artist {artist}"
    return f"piece {artist or ''}: {title}" if title else None


def _spelled(value: tp.Any) -> str | None:
    """A name in one spelling."""
    return " ".join(str(value).casefold().split()) or None if value is not None else None
