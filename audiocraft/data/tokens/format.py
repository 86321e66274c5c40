"""Token folders: format and reader of pre-encoded data sets.

The codes of whole files are computed once and can be cut at any frame.

    FOLDER/tokens.json              tokenizer, sample rates, and the files of each shard
    FOLDER/shards/00000.codes       codes, by frame and file
    FOLDER/shards/00000.wave        mono waveforms of the same files, for style conditioners
    FOLDER/shards/00000.jsonl       checksums of these two, then a line for each file
    FOLDER/index.safetensors        the lines of all shards as arrays, mapped in training
    FOLDER/SHA256SUMS               of all files above: `sha256sum -c SHA256SUMS`

A shard is complete once its `.jsonl` exists, and the folder once it has its checksums; both are
written atomically. An interrupted call resumes with the first missing shard, and several machines
can write different shards of one folder.
"""

import json
import typing as tp
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import ManifestError
from ..meta_table import MetaTable
from ..shared_arrays import SharedArrays

VERSION = 1
HEADER, INDEX, SUMS, SHARDS = "tokens.json", "index.safetensors", "SHA256SUMS", "shards"
WAVE_TYPES = ("int16", "float32")
MAPPED_SHARDS = 128  # maximum number of files that a process keeps open


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """Properties of a tokenizer that a pre-encoded data set and a model must agree on."""

    hash: str  # hash of weights and configuration
    name: str = field(compare=False)  # where it was loaded from
    sample_rate: int  # Hz
    frame_rate: float  # frames per second
    channels: int
    cardinality: int
    num_codebooks: int
    frames_per_cut: int = 1  # codes can be cut at multiples of this

    @property
    def hop_length(self) -> int:
        """Samples between two positions where codes can be cut."""
        return round(self.sample_rate * self.frames_per_cut / self.frame_rate)

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a waveform of `num_samples`."""
        return -(-num_samples // self.hop_length) * self.frames_per_cut


@dataclass(frozen=True, kw_only=True)
class TokenFolderHeader:
    """Content of `tokens.json`: origin of the codes, and distribution of files over shards."""

    tokenizer: TokenizerSpec
    wave_rate: int | None  # Hz; None: no waveforms
    wave_type: str  # one of WAVE_TYPES
    silence: list[int]  # codes of silence, [K]
    manifest_hash: str
    shard_ends: list[int]  # index of the first file after each shard
    version: int = VERSION

    @property
    def num_shards(self) -> int:
        return len(self.shard_ends)

    @property
    def code_type(self) -> np.dtype:
        return np.dtype(np.int16 if self.tokenizer.cardinality <= 2**15 else np.int32)

    def files_of(self, shard: int) -> range:
        """Indices of the files of a shard in the manifest."""
        return range(self.shard_ends[shard - 1] if shard else 0, self.shard_ends[shard])

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1)


def is_token_folder(source: str | Path) -> bool:
    """Whether a data source is a token folder."""
    return (Path(source) / HEADER).is_file()


def read_header(folder: str | Path) -> TokenFolderHeader:
    """Read the header of a token folder.

    Raises:
        ManifestError: It is not a token folder, or has another format version.
    """
    path = Path(folder) / HEADER
    try:
        content = json.loads(path.read_bytes())
        version = content["version"]
        if version == VERSION:
            tokenizer = TokenizerSpec(**content.pop("tokenizer"))
            return TokenFolderHeader(tokenizer=tokenizer, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path} is not the header of a token folder: {error}.") from None
    raise ManifestError(
        f"{folder} has format version {version}; supported: {VERSION}. Encode the data set again."
    )


def shard_path(folder: Path, shard: int, suffix: str) -> Path:
    """Path of a file of a shard; `suffix` is codes, wave or jsonl."""
    return folder / SHARDS / f"{shard:05d}.{suffix}"


def missing_shards(folder: Path, header: TokenFolderHeader) -> list[int]:
    """Indices of the shards that are not complete."""
    return [n for n in range(header.num_shards) if not shard_path(folder, n, "jsonl").is_file()]


class TokenFolder:
    """Reader of a complete token folder; its files are memory-mapped.

    Args:
        folder: Its path.

    Raises:
        ManifestError: It is not complete, or a file is missing or truncated.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.header = read_header(folder)
        if not (self.folder / SUMS).is_file():
            missing = len(missing_shards(self.folder, self.header))
            raise ManifestError(
                f"{folder} is not complete: {missing} of {self.header.num_shards} shards are "
                "missing. Repeat the `python -m audiocraft encode-dataset` command; it resumes."
            )
        self.files = MetaTable(SharedArrays.load(self.folder / INDEX))
        self._maps: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()

    def check_sizes(self) -> None:
        """Check the sizes of all shards, not their content.

        Raises:
            ManifestError: A shard is missing or truncated.
        """
        for shard in range(self.header.num_shards):
            self._check_size(shard, "codes")
            if self.header.wave_rate is not None:
                self._check_size(shard, "wave")

    def number(self, column: str, row: int) -> int:
        """Entry of the index: num_frames, num_samples, num_wave_samples, …"""
        return int(self.files.arrays[column][row])

    def codes(self, row: int, start: int, stop: int) -> np.ndarray:
        """Codes of a file, `[F, K]`, from frame `start` to `stop`; fewer at its end."""
        return self._part(row, "codes", start, min(stop, self.number("num_frames", row)))

    def wave(self, row: int, start: int, stop: int) -> np.ndarray:
        """Waveform of a file at `wave_rate` of the header, `[T]` float32 in [-1, 1]."""
        samples = self._part(row, "wave", start, min(stop, self.number("num_wave_samples", row)))
        scale = 2.0**-15 if samples.dtype == np.int16 else 1.0
        return np.multiply(samples, np.float32(scale), dtype=np.float32)

    def info(self, row: int) -> dict[str, tp.Any] | None:
        """Content of the JSON file of an audio file, or `None`."""
        text = self.files.text("info", row)
        return None if text is None else json.loads(text)

    def problem(self, row: int) -> str | None:
        """Reason why a file could not be encoded, or `None`."""
        return self.files.text("problem", row)

    def _part(self, row: int, kind: str, start: int, stop: int) -> np.ndarray:
        first = self.number("first_frame" if kind == "codes" else "first_wave_sample", row)
        mapped = self.map(self.number("shard", row), kind)
        return mapped[first + start : first + max(start, stop)]

    def map(self, shard: int, kind: str) -> np.ndarray:
        """Map a shard: `codes`, `[F, K]`, or `wave`, `[T]`."""
        key = (shard, kind)
        if key in self._maps:
            self._maps.move_to_end(key)
            return self._maps[key]
        path = shard_path(self.folder, shard, kind)
        self._check_size(shard, kind)
        dtype = self.header.code_type if kind == "codes" else np.dtype(self.header.wave_type)
        empty = path.stat().st_size == 0  # an empty file cannot be mapped
        mapped = np.zeros(0, dtype) if empty else np.memmap(path, dtype, mode="r")
        if kind == "codes":
            mapped = mapped.reshape(-1, self.header.tokenizer.num_codebooks)
        self._maps[key] = mapped = mapped.view(np.ndarray)  # faster to slice than a memmap
        if len(self._maps) > MAPPED_SHARDS:
            self._maps.popitem(last=False)
        return mapped

    def _check_size(self, shard: int, kind: str) -> None:
        """Check the size of a file: reading a mapping beyond its end kills the process."""
        path = shard_path(self.folder, shard, kind)
        expected = int(self.files.arrays[f"shard_{kind}_bytes"][shard])
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise ManifestError(
                f"{path} has {size} bytes instead of {expected}. Delete "
                f"{shard_path(self.folder, shard, 'jsonl')} and {self.folder / SUMS}, and repeat "
                "encode-dataset; other shards are kept."
            )

    def __getstate__(self):
        return self.__dict__ | {"_maps": OrderedDict()}


def check_tokenizer(source: str | Path, header: TokenFolderHeader, model: TokenizerSpec) -> None:
    """Check that a data set was encoded with the tokenizer of a model.

    Raises:
        ManifestError: It was encoded with another one, or has too few codebooks.
    """
    own = header.tokenizer
    if own.hash != model.hash or own.sample_rate != model.sample_rate:
        one, other = (f"{t.hash} ({t.name}, {t.sample_rate} Hz)" for t in (own, model))
        problem = f"was encoded by the tokenizer {one}, but the model's is {other}"
    elif replace(own, num_codebooks=model.num_codebooks) != model:
        problem = f"was encoded as {own}, but the model reads {model}"
    elif own.num_codebooks < model.num_codebooks:
        problem = f"has {own.num_codebooks} codebooks, but the model {model.num_codebooks}"
    else:
        return
    raise ManifestError(
        f"{source} {problem}. Encode the data set with the model's tokenizer, or choose the "
        "data set's as compression_model_checkpoint."
    )
