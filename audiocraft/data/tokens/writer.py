"""Writing and verifying folders of tokens; `token_cache.py` says what is in them."""

import contextlib
import hashlib
import json
import os
import socket
import typing as tp
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import ManifestError
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
    """One file of a data set, encoded as a whole. All is empty where it could not be read."""

    codes: np.ndarray  # [frames, K]
    wave: np.ndarray  # [T] at the listener's rate, empty where nobody listens
    num_samples: int  # at the tokenizer's rate
    info: dict[str, tp.Any] | None  # its metadata
    problem: str | None = None  # why it could not be read


def hash_of_manifest(metas: tp.Iterable[AudioMeta]) -> str:
    """A fingerprint of which files are encoded, in which order; their folder may move."""
    digest = hashlib.sha256()
    for meta in metas:
        parts = [os.path.basename(meta.path), meta.duration, meta.weight]
        digest.update(json.dumps(parts).encode() + b"\n")
    return digest.hexdigest()[:32]


def split_into_shards(durations: np.ndarray, seconds: float) -> list[int]:
    """Files up to the end of each shard; a shard ends with the file that fills its `seconds`."""
    ends, filled = [], 0.0
    for number, duration in enumerate(durations.tolist(), start=1):
        filled += duration
        if filled >= seconds or number == len(durations):
            ends.append(number)
            filled = 0.0
    return ends


def start_folder(folder: Path, header: TokenFolderHeader) -> None:
    """Begin a folder, or see that one that was begun is the same.

    Raises:
        ManifestError: It holds something else.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    if not (folder / HEADER).is_file():
        if any(folder.iterdir()) and list(folder.iterdir()) != [folder / SHARDS]:
            raise ManifestError(f"{folder} holds other files. Give an empty or a new folder.")
        write_atomically(folder / HEADER, header.dumps().encode())
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
    raise ManifestError(f"{folder} was begun {difference}. Give another folder, or delete it.")


def write_shard(
    folder: Path, header: TokenFolderHeader, shard: int, files: tp.Iterable[EncodedFile]
) -> list[Line]:
    """Write a shard, its `.jsonl` last; returns the lines about its files."""
    kinds = ("codes",) if header.wave_rate is None else ("codes", "wave")
    types = {"codes": header.code_type, "wave": np.dtype(header.wave_type)}
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        streams = {
            kind: stack.enter_context(_Growing(shard_path(folder, shard, kind))) for kind in kinds
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
        summary = {kind: stream.finish() for kind, stream in streams.items()}
    text = "".join(json.dumps(line) + "\n" for line in [summary, *lines])
    write_atomically(shard_path(folder, shard, "jsonl"), text.encode())
    return lines


class _Growing:
    """A file that takes its name when it is finished, and what it holds so far."""

    def __init__(self, path: Path):
        self.path, self.unfinished = path, _unfinished(path)
        self.file = open(self.unfinished, "wb")  # noqa: SIM115 (`__exit__` closes it)
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, array: np.ndarray) -> None:
        self.file.write(array.data)
        self.digest.update(array.data)
        self.size += array.nbytes

    def finish(self) -> dict[str, tp.Any]:
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self.unfinished, self.path)
        return {"bytes": self.size, "sha256": self.digest.hexdigest()}

    def __enter__(self) -> "_Growing":
        return self

    def __exit__(self, *_: tp.Any) -> None:
        self.file.close()
        self.unfinished.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file, which appears complete or not at all."""
    with _Growing(path) as file:
        file.write(np.frombuffer(content, np.uint8))
        file.finish()


def finish_folder(folder: Path, header: TokenFolderHeader, metas: tp.Iterable[AudioMeta]) -> bool:
    """Write the index and the checksums once all shards are there; tells whether they are."""
    if missing_shards(folder, header):
        return False
    summaries, columns = read_shards(folder, header)
    save_arrays(folder / INDEX, columns_of(metas) | columns)
    sums = {name: _hash_of(folder / name) for name in (HEADER, INDEX)}
    for shard, summary in enumerate(summaries):
        for kind, facts in summary.items():
            sums[str(shard_path(Path(), shard, kind))] = facts["sha256"]
        lines = shard_path(Path(), shard, "jsonl")
        sums[str(lines)] = _hash_of(folder / lines)
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    write_atomically(folder / SUMS, text.encode())
    for leftover in (folder / SHARDS).glob(".*.part"):  # of somebody who was killed
        leftover.unlink(missing_ok=True)
    return True


def read_shards(
    folder: Path, header: TokenFolderHeader
) -> tuple[list[Line], dict[str, np.ndarray]]:
    """What the shards say: the checksums of each, and the columns of the index.

    Raises:
        ManifestError: A shard tells of another number of files than it holds.
    """
    summaries: list[Line] = []
    lines: list[Line] = []
    for shard in range(header.num_shards):
        with open(shard_path(folder, shard, "jsonl"), "rb") as file:
            summary, *of_files = (json.loads(line) for line in file)
        if len(of_files) != len(header.files_of(shard)):
            raise ManifestError(f"{file.name} tells of {len(of_files)} files; delete it.")
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
    """Where each file begins in its shard."""
    before = np.cumsum(lengths) - lengths
    first_files = np.array([0, *shard_ends[:-1]])
    return before - np.repeat(before[first_files], np.diff(shard_ends, prepend=0))


def _hash_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_folder(folder: Path, workers: int = 1) -> list[str]:
    """Read a complete folder from end to end.

    Args:
        folder: Where it is.
        workers: Files read at the same time.

    Returns:
        What is wrong, a sentence each.

    Raises:
        ManifestError: It is no folder of tokens, or is not finished.
    """
    tokens = TokenFolder(folder)
    names = {}
    for line in (folder / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        names[name] = digest
    missing = [name for name in names if not (folder / name).is_file()]
    present = [name for name in names if name not in missing]
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda name: _hash_of(folder / name), present)
        changed = [name for name, digest in zip(present, found) if digest != names[name]]
    problems = [f"{name} is missing." for name in missing]
    problems += [f"{name} is not what was written." for name in changed]
    if problems:
        return problems
    _, columns = read_shards(folder, tokens.header)
    for name, column in columns.items():
        if not np.array_equal(column, tokens.files.arrays[name]):
            problems.append(f"{INDEX} and the shards disagree about {name}.")
    for shard in range(tokens.header.num_shards):
        codes = tokens.map(shard, "codes")
        if codes.size and not 0 <= codes.min() <= codes.max() < tokens.header.tokenizer.cardinality:
            problems.append(f"{shard_path(Path(), shard, 'codes')} holds tokens out of range.")
    return problems
