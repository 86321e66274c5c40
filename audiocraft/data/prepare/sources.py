"""Sources of music: a folder, a table, or a Hugging Face data set.

All are read as `Track`s: audio, metadata, and the raw row, whose columns define groups.
"""

import json
import typing as tp
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import ManifestError
from ..io.decoders import read_tags
from ..io.files import is_audio_name, list_audio_files
from ..io.tables import SUFFIXES, Row, read_rows
from ..music_info import READERS, normalize

# Column names of each field, unless given explicitly; `File Name` is normalized to `file_name`.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "audio": ("audio", "audio_path", "path", "file", "file_name", "filename", "filepath", "wav"),
    "description": ("description", "caption", "text", "prompt", "sentence"),
    "title": ("title", "track", "track_name", "track_title", "song", "song_name"),
    "artist": ("artist", "artist_name", "artists", "performer", "band"),
    "genre": ("genre", "genres", "main_genre", "style"),
    "moods": ("moods", "mood"),
    "keywords": ("keywords", "tags"),
    "key": ("key", "musical_key"),
    "bpm": ("bpm", "tempo"),
    "instrument": ("instrument", "instruments"),
    "name": ("name",),
}
LIST_FIELDS = ("moods", "keywords", "instrument")
TAGS = {"title": "title", "artist": "artist", "genre": "genre", "bpm": "bpm", "tbpm": "bpm"}
TAGS |= {"initialkey": "key", "tkey": "key"}
SIGNATURES = (  # first bytes of audio files, and their extension
    (b"RIFF", ".wav"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"FORM", ".aiff"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
    (b"\xff\xf3", ".mp3"),
    (b"\xff\xf1", ".aac"),
)


@dataclass(frozen=True, kw_only=True)
class Track:
    """One audio file with its metadata."""

    origin: str  # where it was found, for messages
    name: str  # a safe relative path
    audio: str | bytes  # a path, a zip member, or the content of a file
    fields: dict[str, tp.Any]  # fields of `READERS` with a value
    row: dict[str, tp.Any]  # all metadata
    ignored: list[str]  # fields of an unsupported type, with the reason


def read_tracks(source: Path, columns: tp.Mapping[str, str]) -> tp.Iterator[Track | ManifestError]:
    """Read the tracks of a folder, a table or a Hugging Face data set, in a stable order.

    Args:
        source: A folder of audio with .txt or .json files beside it; a table; a folder with
            `metadata.csv` or similar, Parquet files, or the output of `save_to_disk`.
        columns: Column of the `audio` or a field; others are detected by `COLUMN_NAMES`.

    Yields:
        Tracks; an error in place of one that cannot be used.

    Raises:
        ManifestError: The source contains no audio, or a table cannot be read.
    """
    unknown = set(columns) - set(COLUMN_NAMES)
    if unknown:
        raise ManifestError(
            f"--column {', '.join(sorted(unknown))} is not supported. Supported: "
            f"{', '.join(COLUMN_NAMES)}."
        )
    tables = [source] if source.is_file() else _tables_in(source)
    for table in tables:
        yield from _from_table(table, columns)
    if tables:
        return
    paths = list_audio_files(source)
    if not paths:
        raise ManifestError(
            f"{source} contains neither audio files nor a table ({', '.join(SUFFIXES)}). "
            "Give a folder of audio or a table."
        )
    for path in paths:
        try:
            yield _from_file(path, source)
        except ManifestError as error:
            yield error


def _tables_in(folder: Path) -> list[Path]:
    """Tables of a folder; empty if its audio files are read directly."""
    metadata = sorted(path for path in folder.rglob("metadata.*") if path.suffix in SUFFIXES)
    states = sorted(folder.rglob("state.json"))  # of a data set written by `save_to_disk`
    if metadata:
        return metadata
    if states:
        return [table for state in states for table in _arrow_files(state)]
    return [] if list_audio_files(folder) else sorted(folder.rglob("*.parquet"))


def _arrow_files(state: Path) -> list[Path]:
    try:
        names = [entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{state} does not list the files of a data set: {error}.") from None
    return [state.parent / PurePosixPath(str(name)).name for name in names]


def _from_file(path: Path, folder: Path) -> Track:
    """Read an audio file. Its .txt file overrides its .json file, which overrides its tags."""
    row: dict[str, tp.Any] = {}
    row |= {TAGS[tag]: text for tag, text in read_tags(path).items() if tag in TAGS}
    name = path.relative_to(folder).as_posix()
    row |= _beside(path) | {"folder": _folder_of(name)}
    fields, ignored = _normalize_fields({field: row.get(field) for field in READERS}, str(path))
    return Track(
        origin=str(path),
        name=_safe(name),
        audio=str(path),
        fields=fields,
        row=row,
        ignored=ignored,
    )


def _beside(path: Path) -> dict[str, tp.Any]:
    """Metadata in the .txt and .json files beside an audio file."""
    row: dict[str, tp.Any] = {}
    info = path.with_suffix(".json")
    if info.is_file():
        try:
            row = json.loads(info.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{info} cannot be read as JSON: {error}.") from None
        if not isinstance(row, dict):
            raise ManifestError(f"{info} is not a JSON object. Correct or remove it.")
    text = path.with_suffix(".txt")
    if text.is_file():
        content = text.read_bytes()
        try:
            row["description"] = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            row["description"] = content.decode("latin-1").strip()
    return row


def _from_table(table: Path, columns: tp.Mapping[str, str]) -> tp.Iterator[Track | ManifestError]:
    first: Row = {}
    chosen: dict[tuple[str, ...], dict[str, str]] = {}  # by the columns of a row
    for number, row in enumerate(read_rows(table), start=1):
        first = first or row
        columns_of_row = tuple(row)
        if columns_of_row not in chosen:
            present = list(dict.fromkeys([*first, *row]))
            chosen[columns_of_row] = _choose_columns(table, present, columns)
        try:
            yield _from_row(row, chosen[columns_of_row], table, number)
        except ManifestError as error:
            yield error
    if not first:
        raise ManifestError(f"{table} has no rows.")


def _from_row(row: Row, chosen: tp.Mapping[str, str], table: Path, number: int) -> Track:
    origin = f"{table}, row {number}"
    audio, name = _audio_of(row.get(chosen["audio"]), table, number, origin)
    origin = f"{origin} ({name})"
    values = {field: row.get(chosen[field]) for field in READERS if field in chosen}
    fields, ignored = _normalize_fields(values, origin)
    row = row | {"folder": _folder_of(name)}
    return Track(
        origin=origin, name=_safe(name), audio=audio, fields=fields, row=row, ignored=ignored
    )


def _normalize_fields(
    values: tp.Mapping[str, tp.Any], origin: str
) -> tuple[dict[str, tp.Any], list[str]]:
    """Metadata as written to a JSON file, and the fields that are ignored, with the reason."""
    fields, ignored = {}, []
    for field, value in values.items():
        try:
            value = normalize(value)
        except TypeError as error:
            ignored.append(f"{origin}: {field} {error}")
            continue
        if isinstance(value, list) and field not in LIST_FIELDS:
            value = ", ".join(value)
        if value is not None:
            fields[field] = value
    return fields, ignored


def _choose_columns(
    table: Path, present: tp.Sequence[str], given: tp.Mapping[str, str]
) -> dict[str, str]:
    """Determine the columns of the audio and of each field."""
    for field, column in given.items():
        if column not in present:
            raise ManifestError(
                f"{table} has no column {column!r} for {field}. Its columns: {', '.join(present)}."
            )
    lowered = {column.lower().replace(" ", "_"): column for column in reversed(present)}
    chosen = {}
    for field, names in COLUMN_NAMES.items():
        found = given.get(field) or next((lowered[n] for n in names if n in lowered), None)
        if found is not None:
            chosen[field] = found
    if "audio" not in chosen:
        raise ManifestError(
            f"{table} has no column of audio ({', '.join(COLUMN_NAMES['audio'])}). "
            f"Give it with --column audio=NAME. Its columns: {', '.join(present)}."
        )
    return chosen


def _audio_of(cell: tp.Any, table: Path, number: int, origin: str) -> tuple[str | bytes, str]:
    """Path or content of the audio of a row, and a name for it."""
    content, path = cell, None
    if isinstance(cell, dict):  # format of Hugging Face data sets
        content, path = cell.get("bytes"), cell.get("path")
        content = path if content is None else content
    if isinstance(content, bytes):
        name = PurePosixPath(str(path)).name if path else f"{table.stem}_{number:06d}"
        return content, name if is_audio_name(name) else name + _suffix_of(content)
    if not isinstance(content, str) or not content:
        raise ManifestError(f"{origin} has no audio: {cell!r}.")
    if "://" in content:
        raise ManifestError(f"{origin}: {content} is a URL. Download it first.")
    inside = not PurePosixPath(content).is_absolute()
    return str(table.parent / content), content if inside else PurePosixPath(content).name


def _folder_of(name: str) -> str:
    """Folder part of a relative path; may be empty."""
    return name.rpartition("/")[0]


def _suffix_of(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return ".m4a"
    return next((suffix for start, suffix in SIGNATURES if content.startswith(start)), ".wav")


def _safe(name: str) -> str:
    """Convert to a relative path without parent folders and hidden names."""
    parts = name.replace("\\", "/").replace("\0", "").split("/")
    kept = [part.lstrip(".") for part in parts]
    return "/".join(part for part in kept if part) or "audio"
