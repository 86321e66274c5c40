"""Manifests: which audio files a data set has, one JSON object per line.

A data source is such a file (`.jsonl` or `.jsonl.gz`) or the folder that holds it as
`data.jsonl[.gz]`. Relative paths in it count from the current directory or, failing that, from
the nearest folder above the manifest where they lead somewhere.
"""

import contextlib
import gzip
import json
import logging
import os
import typing as tp
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from tqdm import tqdm

from ..errors import AudioError, ManifestError
from ..utils.numbers import is_number
from .audio import audio_blocks, audio_info
from .io.files import EXTENSIONS, exists, list_audio_files, replacing
from .resume_log import ResumeLog

logger = logging.getLogger(__name__)

MANIFEST_NAMES = ("data.jsonl", "data.jsonl.gz")
COMMAND = "python -m audiocraft.data.audio_dataset"
AT_ONCE = 256  # files that are handed to the threads together
PathMap = tp.Callable[[str], str]


@dataclass(slots=True)
class AudioMeta:
    """One audio file of a data set."""

    path: str  # a file, or a zip member: `archive.zip:inner.mp3`
    duration: float  # seconds
    sample_rate: int  # Hz
    amplitude: float | None = None  # its highest absolute sample
    weight: float | None = None  # how often to draw it; None is 1
    info_path: str | None = None  # its metadata; None is `path` with the suffix .json


FIELDS = tuple(field.name for field in fields(AudioMeta))


def find_manifest(source: str | Path) -> Path:
    """The manifest that a data source means.

    Raises:
        ManifestError: There is none.
    """
    path = Path(source)
    candidates = [path / name for name in MANIFEST_NAMES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise ManifestError(
            f"The folder {source} holds no {' or '.join(MANIFEST_NAMES)}. "
            f"Give the folder of a manifest; "
            f"one is written by `{COMMAND} AUDIO_FOLDER {path / MANIFEST_NAMES[0]}`."
        )
    raise ManifestError(
        f"There is no manifest at {source}. Correct the path, or write one with "
        f"`{COMMAND} AUDIO_FOLDER {path if path.suffix else path / MANIFEST_NAMES[0]}`."
    )


def load_manifest(source: str | Path, map_path: PathMap | None = None) -> list[AudioMeta]:
    """Read a manifest.

    Args:
        source: The file, or the folder that holds it.
        map_path: Turns paths as written into paths of this machine.

    Raises:
        ManifestError: It is missing, empty, cut short, or a line is no audio file's.
    """
    file = find_manifest(source)
    metas = []
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    metas.append(_parse(line, file, number))
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{file} cannot be read: {error}. Write it anew.") from None
    if not metas:
        raise ManifestError(
            f"{file} names no audio file. Fill it with `{COMMAND} AUDIO_FOLDER {file}`."
        )
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
            f"{file}, line {number}, has no {error}. A line needs path, duration and sample_rate."
        ) from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ManifestError(
            f"{file}, line {number}, is not one JSON object about an audio file ({error})."
        ) from None
    weighty = meta.weight is None or (is_number(meta.weight) and meta.weight >= 0)
    paths = isinstance(meta.path, str) and isinstance(meta.info_path, str | None)
    if not (weighty and paths):
        raise ManifestError(
            f"{file}, line {number}: path and info_path are texts, weight is a number from 0 up, "
            f"not {meta.path!r}, {meta.info_path!r} and {meta.weight!r}."
        )
    return meta


def _find_files(metas: list[AudioMeta], file: Path, map_path: PathMap | None) -> None:
    """Turn the paths of a manifest into paths from the current directory."""
    first = metas[0].path if map_path is None else map_path(metas[0].path)
    base = ""
    if not os.path.isabs(first) and not exists(first):
        above = (folder for folder in file.absolute().parents if exists(folder / first))
        base = str(next(above, ""))
    if not base and map_path is None:
        return
    for meta in metas:
        mapped = meta.path if map_path is None else map_path(meta.path)
        meta.path = os.path.join(base, mapped)
        if meta.info_path is not None:
            mapped = meta.info_path if map_path is None else map_path(meta.info_path)
            meta.info_path = os.path.join(base, mapped)


def save_manifest(path: str | Path, metas: tp.Iterable[AudioMeta]) -> None:
    """Write a manifest, compressed if it ends in `.gz`; it appears complete or not at all."""
    with replacing(path) as raw, contextlib.ExitStack() as stack:
        file: tp.Any = raw
        if Path(path).suffix == ".gz":  # without name and time: the same manifest, the same bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
        for meta in metas:
            file.write(json.dumps(as_line(meta)).encode() + b"\n")


def as_line(meta: AudioMeta) -> dict[str, tp.Any]:
    """What a manifest says about a file."""
    return {name: getattr(meta, name) for name in FIELDS}


def find_audio_files(
    folder: str | Path,
    minimal: bool = True,
    resolve: bool = False,
    workers: int = 10,
    progress: bool = False,
    resume_log: ResumeLog | None = None,
) -> list[AudioMeta]:
    """Describe every audio file below a folder or in a zip archive, in the order of their paths.

    Files that cannot be read are reported and left out.

    Args:
        folder: Where to look.
        minimal: Read headers only; `False` also decodes everything to find the amplitude.
        resolve: Write absolute paths, links resolved.
        workers: Files that are read at the same time.
        progress: Show a bar.
        journal: Where what was found out is kept, should this be interrupted.

    Raises:
        ManifestError: There is no such folder, or no readable audio file in it.
    """
    if not os.path.isdir(folder) and Path(folder).suffix.lower() != ".zip":
        raise ManifestError(f"There is no folder {folder}. Give the folder that holds the audio.")
    try:
        paths = list_audio_files(os.path.realpath(folder) if resolve else folder)
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read: {error}.") from None
    if resolve:
        paths = [Path(os.path.realpath(path)) for path in paths]

    def describe(path: Path) -> AudioMeta | AudioError:
        known = resume_log and resume_log.find(path)
        try:
            return AudioMeta(**known) if known else read_audio_meta(path, minimal)
        except AudioError as error:
            return error

    metas = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), unit="file", disable=not progress) as bar,
    ):
        for start in range(0, len(paths), AT_ONCE):  # an interruption waits for no more
            block = paths[start : start + AT_ONCE]
            for path, result in zip(block, pool.map(describe, block)):
                if isinstance(result, AudioError):
                    logger.warning("Left out: %s", result)
                else:
                    metas.append(result)
                    if resume_log and not resume_log.find(path):
                        resume_log.add(path, as_line(result))
                bar.update()
    if not metas:
        raise ManifestError(
            f"{folder} holds {len(paths)} audio files and none can be read. "
            f"Give a folder with files of type {', '.join(EXTENSIONS)}."
        )
    return metas


def read_audio_meta(path: Path, minimal: bool = True) -> AudioMeta:
    """Read what a manifest says about a file.

    Args:
        path: The file.
        minimal: Leave the amplitude out, for which the file would be decoded.

    Raises:
        AudioError: It cannot be read.
    """
    info = audio_info(path)
    amplitude = None
    if not minimal:
        amplitude = max(float(block.abs().max()) for block in audio_blocks(path))
    return AudioMeta(str(path), info.duration, info.sample_rate, amplitude)
