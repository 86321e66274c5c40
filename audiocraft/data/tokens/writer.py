"""Writer of token folders, and verification of their checksums. The format is in `format.py`."""

import contextlib
import hashlib
import json
import os
import typing as tp
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import ManifestError
from ...utils.atomic_write import TEMPORARY_FILES, atomic_file, write_text
from ..manifest import AudioMeta
from ..meta_table import columns_of, pack_texts
from ..shared_arrays import save_arrays
from .format import (
    HEADER,
    INDEX,
    SHARDS,
    SUMS,
    TokenFolder,
    TokenFolderHeader,
    missing_shards,
    read_header,
    shard_path,
)

Line = dict[str, tp.Any]


class EncodedFile(tp.NamedTuple):
    """One encoded file. All arrays are empty if it could not be read."""

    codes: np.ndarray  # [F, K]
    wave: np.ndarray  # [T] at `wave_rate` of the header; empty without waveforms
    num_samples: int  # at the tokenizer's rate
    info: dict[str, tp.Any] | None  # its metadata
    problem: str | None = None  # reason if it could not be read


def hash_of_manifest(metas: tp.Iterable[AudioMeta]) -> str:
    """Hash of the names and order of files, independent of their folder."""
    digest = hashlib.sha256()
    for meta in metas:
        parts = [os.path.basename(meta.path), meta.duration, meta.weight]
        digest.update(json.dumps(parts).encode() + b"\n")
    return digest.hexdigest()[:32]


def split_into_shards(durations: np.ndarray, seconds: float) -> list[int]:
    """Divide files into shards of `seconds`; returns the index of the first file after each."""
    ends, filled = [], 0.0
    for number, duration in enumerate(durations.tolist(), start=1):
        filled += duration
        if filled >= seconds or number == len(durations):
            ends.append(number)
            filled = 0.0
    return ends


def start_folder(folder: Path, header: TokenFolderHeader) -> None:
    """Create a token folder, or check that an existing one has the same header.

    Raises:
        ManifestError: The folder has other content.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    if not (folder / HEADER).is_file():
        if any(folder.iterdir()) and list(folder.iterdir()) != [folder / SHARDS]:
            raise ManifestError(f"{folder} contains other files. Give an empty or a new folder.")
        write_text(folder / HEADER, header.dumps())
        return
    found = read_header(folder)
    if found == header:
        return
    if found.tokenizer.hash != header.tokenizer.hash:
        difference = f"by the tokenizer {found.tokenizer.hash}, not {header.tokenizer.hash}"
    elif found.manifest_hash != header.manifest_hash:
        difference = f"from the manifest {found.manifest_hash}, not {header.manifest_hash}"
    else:
        names = [name for name in vars(header) if getattr(found, name) != getattr(header, name)]
        difference = "; ".join(
            f"with {name} {getattr(found, name)}, not {getattr(header, name)}" for name in names
        )
    raise ManifestError(f"{folder} was started {difference}. Give another folder, or delete it.")


def write_shard(
    folder: Path, header: TokenFolderHeader, shard: int, files: tp.Iterable[EncodedFile]
) -> list[Line]:
    """Write a shard, its `.jsonl` last; returns the lines of its files."""
    kinds = ("codes",) if header.wave_rate is None else ("codes", "wave")
    types = {"codes": header.code_type, "wave": np.dtype(header.wave_type)}
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        streams = {
            kind: stack.enter_context(_ShardFile(shard_path(folder, shard, kind))) for kind in kinds
        }
        for file in files:
            for kind, stream in streams.items():
                stream.write(np.ascontiguousarray(getattr(file, kind), types[kind]))
            lines.append(
                {
                    "num_frames": len(file.codes),
                    "num_samples": file.num_samples,
                    "num_wave_samples": len(file.wave),
                    "info": file.info,
                    "problem": file.problem,
                }
            )
        summary = {kind: stream.summary() for kind, stream in streams.items()}
    text = "".join(json.dumps(line) + "\n" for line in [summary, *lines])
    write_text(shard_path(folder, shard, "jsonl"), text, fsync=True)
    return lines


class _ShardFile:
    """A binary file written atomically, with its size and checksum."""

    def __init__(self, path: Path):
        self._context = atomic_file(path, fsync=True)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, array: np.ndarray) -> None:
        self._file.write(array.data)
        self._digest.update(array.data)
        self._size += array.nbytes

    def summary(self) -> dict[str, tp.Any]:
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> tp.Self:
        self._file = self._context.__enter__()
        return self

    def __exit__(self, *error: tp.Any) -> None:
        self._context.__exit__(*error)


def finish_folder(folder: Path, header: TokenFolderHeader, metas: tp.Iterable[AudioMeta]) -> bool:
    """Write the index and checksums if all shards are complete; returns whether they are."""
    if missing_shards(folder, header):
        return False
    summaries, columns = read_shards(folder, header)
    save_arrays(folder / INDEX, columns_of(metas) | columns)
    sums = {name: _hash_of(folder / name) for name in (HEADER, INDEX)}
    for shard, summary in enumerate(summaries):
        for kind, checksum in summary.items():
            sums[str(shard_path(Path(), shard, kind))] = checksum["sha256"]
        lines = shard_path(Path(), shard, "jsonl")
        sums[str(lines)] = _hash_of(folder / lines)
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    write_text(folder / SUMS, text, fsync=True)
    for leftover in (folder / SHARDS).glob(TEMPORARY_FILES):  # of killed processes
        leftover.unlink(missing_ok=True)
    return True


def read_shards(
    folder: Path, header: TokenFolderHeader
) -> tuple[list[Line], dict[str, np.ndarray]]:
    """Read the `.jsonl` files: the checksums of each shard, and the columns of the index.

    Raises:
        ManifestError: The number of lines of a shard does not match the header.
    """
    summaries: list[Line] = []
    lines: list[Line] = []
    for shard in range(header.num_shards):
        with open(shard_path(folder, shard, "jsonl"), "rb") as file:
            summary, *of_files = (json.loads(line) for line in file)
        if len(of_files) != len(header.files_of(shard)):
            raise ManifestError(
                f"{file.name} has {len(of_files)} lines, not {len(header.files_of(shard))}. "
                "Delete it and repeat encode-dataset."
            )
        summaries.append(summary)
        lines += of_files
    shards = np.repeat(np.arange(header.num_shards), np.diff(header.shard_ends, prepend=0))
    columns = {
        name: np.array([line[name] for line in lines], np.int64)
        for name in ("num_frames", "num_samples", "num_wave_samples")
    }
    columns["shard"] = shards
    columns["first_frame"] = _starts(columns["num_frames"], header.shard_ends)
    columns["first_wave_sample"] = _starts(columns["num_wave_samples"], header.shard_ends)
    for kind in ("codes", "wave"):
        sizes = [summary.get(kind, {"bytes": 0})["bytes"] for summary in summaries]
        columns[f"shard_{kind}_bytes"] = np.array(sizes, np.int64)
    infos = (None if line["info"] is None else json.dumps(line["info"]) for line in lines)
    columns["info"], columns["info_ends"] = pack_texts(infos)
    columns["problem"], columns["problem_ends"] = pack_texts(line["problem"] for line in lines)
    return summaries, columns


def _starts(lengths: np.ndarray, shard_ends: list[int]) -> np.ndarray:
    """Position of each file in its shard."""
    before = np.cumsum(lengths) - lengths
    first_files = np.array([0, *shard_ends[:-1]])
    return before - np.repeat(before[first_files], np.diff(shard_ends, prepend=0))


def _hash_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_folder(folder: Path, workers: int = 1) -> list[str]:
    """Check the content of a complete token folder.

    Args:
        folder: Its path.
        workers: Number of threads.

    Returns:
        Problems, one sentence each.

    Raises:
        ManifestError: It is not a token folder, or not complete.
    """
    tokens = TokenFolder(folder)
    names = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        names[name] = digest
    missing = [name for name in names if not (folder / name).is_file()]
    present = [name for name in names if name not in missing]
    with ThreadPoolExecutor(workers) as pool:
        digests = pool.map(lambda name: _hash_of(folder / name), present)
        changed = [name for name, digest in zip(present, digests) if digest != names[name]]
    problems = [f"{name} is missing." for name in missing]
    problems += [f"{name} does not match its checksum." for name in changed]
    if problems:
        return problems
    _, columns = read_shards(folder, tokens.header)
    for name, column in columns.items():
        if not np.array_equal(column, tokens.files.arrays[name]):
            problems.append(f"{INDEX} and the shards differ in {name}.")
    for shard in range(tokens.header.num_shards):
        codes = tokens.map(shard, "codes")
        if codes.size and not 0 <= codes.min() <= codes.max() < tokens.header.tokenizer.cardinality:
            problems.append(f"{shard_path(Path(), shard, 'codes')} has codes out of range.")
    return problems
