"""Manifests: the audio files of a data set, one JSON object per line.

A data source is such a file (`.jsonl` or `.jsonl.gz`), or the folder that contains it as
`data.jsonl[.gz]`. Each relative path in it is relative to the nearest folder above the manifest in
which the file exists or, if there is none, to the current directory.
"""

import collections
import contextlib
import gzip
import json
import logging
import os
import shlex
import sys
import typing as tp
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from ..errors import AudioError, ManifestError
from ..utils.atomic_write import atomic_file
from ..utils.numbers import is_number
from .audio import audio_blocks, audio_info
from .io.files import EXTENSIONS, MEMBER_MARK, exists, list_audio_files, split_member
from .resume_log import ResumeLog

logger = logging.getLogger(__name__)

MANIFEST_NAMES = ("data.jsonl", "data.jsonl.gz")
COMMAND = "python -m audiocraft manifest"
BLOCK = 256  # files per round of the thread pool: an interruption waits for one round
PathMap = tp.Callable[[str], str]


@dataclass(slots=True)
class AudioMeta:
    """One audio file of a data set."""

    path: str  # a file, or a zip member: `archive.zip:inner.mp3`
    duration: float  # seconds
    sample_rate: int  # Hz
    amplitude: float | None = None  # maximum absolute sample
    weight: float | None = None  # sampling weight; None: 1
    info_path: str | None = None  # metadata; None: `path` with the extension .json


FIELDS = tuple(field.name for field in fields(AudioMeta))


def find_manifest(source: str | Path) -> Path:
    """Find the manifest of a data source.

    Raises:
        ManifestError: It does not exist.
    """
    path = Path(source)
    candidates = [path / name for name in MANIFEST_NAMES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise ManifestError(
            f"The folder {source} contains no {' or '.join(MANIFEST_NAMES)}. Create it with "
            f"`{_command(path / MANIFEST_NAMES[0])}`."
        )
    raise ManifestError(
        f"The manifest {source} does not exist. Correct the path, or create it with "
        f"`{_command(path if path.suffix else path / MANIFEST_NAMES[0])}`."
    )


def _command(path: Path) -> str:
    """The command that writes a manifest, quoted for a shell."""
    return f"{COMMAND} AUDIO_FOLDER {shlex.quote(str(path))}"


def load_manifest(path: str | Path, map_path: PathMap | None = None) -> list[AudioMeta]:
    """Read a manifest.

    Args:
        path: The file, or the folder that contains it.
        map_path: Maps paths in the manifest to paths on this machine.

    Raises:
        ManifestError: The file is missing, empty or truncated, or a line is invalid.
    """
    file = find_manifest(path)
    metas = []
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    metas.append(_parse(line, file, number))
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{file} cannot be read: {error}. Write it again.") from None
    if not metas:
        raise ManifestError(f"{file} lists no audio file. Create it with `{_command(file)}`.")
    _find_files(metas, file, map_path)
    return metas


def _parse(line: bytes, file: Path, number: int) -> AudioMeta:
    try:
        entry = json.loads(line)
        meta = AudioMeta(
            entry["path"],
            float(entry["duration"]),
            int(entry["sample_rate"]),
            entry.get("amplitude"),
            entry.get("weight"),
            entry.get("info_path"),
        )
    except KeyError as error:
        raise ManifestError(
            f"{file}, line {number}, has no {error}. path, duration and sample_rate are required."
        ) from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ManifestError(
            f"{file}, line {number}, is not a JSON object of an audio file ({error})."
        ) from None
    valid_weight = meta.weight is None or (is_number(meta.weight) and meta.weight >= 0)
    valid_paths = isinstance(meta.path, str) and isinstance(meta.info_path, str | None)
    if not (valid_weight and valid_paths):
        raise ManifestError(
            f"{file}, line {number}: path and info_path must be texts, and weight a number of at "
            f"least 0, but they are {meta.path!r}, {meta.info_path!r} and {meta.weight!r}."
        )
    return meta


def _find_files(metas: list[AudioMeta], file: Path, map_path: PathMap | None) -> None:
    """Resolve the paths of a manifest, each by itself.

    A missing file is assumed where most others are, so that errors name a plausible path.
    """
    finder = _Finder(file)
    missing: list[AudioMeta] = []
    for meta in metas:
        path = meta.path if map_path is None else map_path(meta.path)
        found = finder.find(path)
        meta.path = path if found is None else found
        if meta.info_path is not None:
            info_path = meta.info_path if map_path is None else map_path(meta.info_path)
            meta.info_path = finder.find(info_path) or finder.guess(info_path)
        if found is None:
            missing.append(meta)
    for meta in missing:
        meta.path = finder.guess(meta.path)
    if finder.ambiguous:
        logger.warning(
            "%s: %d files exist both relative to the manifest and to the current folder %s. "
            "Those relative to the manifest are used, such as %s.",
            file,
            len(finder.ambiguous),
            os.getcwd(),
            finder.ambiguous[0],
        )


class _Finder:
    """Finds the files that relative paths of a manifest mean.

    The nearest folder above the manifest in which a path exists wins over the current directory.
    Folders are listed once: a query per file would be slow on a network file system.
    """

    def __init__(self, manifest: Path):
        self.above = [str(folder) for folder in manifest.absolute().parents]
        self.current = os.getcwd()
        self.ambiguous: list[str] = []  # paths that also mean another file
        self._counts: collections.Counter[str] = collections.Counter()
        self._list = lru_cache(maxsize=1024)(_list_folder)

    def find(self, path: str) -> str | None:
        """The path with the folder it is relative to; `None` if it does not exist."""
        if os.path.isabs(path):
            return path
        base = next((folder for folder in self.above if self._exists(folder, path)), None)
        if base != self.current and self._exists(self.current, path):
            if base is not None and not _is_same(os.path.join(base, path), path):
                self.ambiguous.append(os.path.join(base, path))
            base = base or self.current
        if base is None:
            return None
        self._counts[base] += 1
        return path if base == self.current else os.path.join(base, path)

    def guess(self, path: str) -> str:
        """Join a missing path to the folder that most others are relative to."""
        if os.path.isabs(path) or not self._counts:
            return path
        (base, _), *_ = self._counts.most_common(1)
        return path if base == self.current else os.path.join(base, path)

    def _exists(self, folder: str, path: str) -> bool:
        if MEMBER_MARK in path:
            return exists(os.path.join(folder, path))
        head, name = os.path.split(path)
        names = self._list(os.path.join(folder, head))
        if names is None:
            return os.path.isfile(os.path.join(folder, path))
        return name in names


def _list_folder(folder: str) -> frozenset[str] | None:
    """Names in a folder; `None` if they do not decide which files exist."""
    if sys.platform in ("darwin", "win32"):  # several spellings of a name are the same file
        return None
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError:
        return None


def _is_same(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(split_member(one)[0], split_member(other)[0])
    return False


def save_manifest(path: str | Path, meta: tp.Iterable[AudioMeta]) -> None:
    """Write a manifest atomically, compressed if `path` ends in `.gz`; its folder is created."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as raw, contextlib.ExitStack() as stack:
        file: tp.Any = raw
        if Path(path).suffix == ".gz":  # without name and time, for reproducible bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
        for entry in meta:
            file.write(json.dumps(as_line(entry)).encode() + b"\n")


def as_line(meta: AudioMeta) -> dict[str, tp.Any]:
    """Fields of a manifest line."""
    return {name: getattr(meta, name) for name in FIELDS}


def find_audio_files(
    path: str | Path,
    exts: tp.Sequence[str] = EXTENSIONS,
    *,
    minimal: bool = True,
    resolve: bool = False,
    workers: int = 10,
    progress: bool = False,
    resume_log: ResumeLog | None = None,
) -> list[AudioMeta]:
    """Find every audio file below a folder or in a zip archive, sorted by path.

    Files that cannot be read are reported and left out.

    Args:
        path: The folder or archive.
        exts: Extensions of audio files.
        minimal: Read headers only; `False` also decodes every file to compute the amplitude.
        resolve: Return absolute paths, with links resolved.
        workers: Number of threads.
        progress: Show a progress bar.
        resume_log: Results of an interrupted call.

    Raises:
        ManifestError: The folder does not exist, or contains no readable audio file.
    """
    if not os.path.isdir(path) and Path(path).suffix.lower() != ".zip":
        raise ManifestError(
            f"The folder {path} does not exist. Give the folder that contains the audio."
        )
    try:
        paths = list_audio_files(os.path.realpath(path) if resolve else path, exts)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error}.") from None
    if resolve:
        paths = [Path(os.path.realpath(found)) for found in paths]

    def read(file: Path) -> AudioMeta | AudioError:
        known = resume_log and resume_log.find(file)
        try:
            return AudioMeta(**known) if known else read_audio_meta(file, minimal)
        except AudioError as error:
            return error

    metas = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), unit="file", disable=not progress) as bar,
    ):
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            for file, result in zip(block, pool.map(read, block)):
                if isinstance(result, AudioError):
                    logger.warning("left out: %s", result)
                else:
                    metas.append(result)
                    if resume_log and not resume_log.find(file):
                        resume_log.add(file, as_line(result))
                bar.update()
    if not metas:
        raise ManifestError(
            f"{path} contains no readable audio file ({len(paths)} found). "
            f"Give a folder with files of type {', '.join(exts)}."
        )
    return metas


def read_audio_meta(path: Path, minimal: bool = True) -> AudioMeta:
    """Create the manifest entry of a file.

    Args:
        path: The file.
        minimal: Omit the amplitude, which requires decoding the file.

    Raises:
        AudioError: The file cannot be read.
    """
    info = audio_info(path)
    amplitude = None
    if not minimal:
        amplitude = max(float(block.abs().max()) for block in audio_blocks(path))
    return AudioMeta(str(path), info.duration, info.sample_rate, amplitude)
