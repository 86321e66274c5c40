"""Pre-encoded data sets: the tokens of whole files, computed once and cut anywhere.

    FOLDER/tokens.json              which tokenizer, which rates, which files are in which shard
    FOLDER/shards/00000.codes       tokens, frame after frame, file after file
    FOLDER/shards/00000.wave        the mono waveform of the same files, where a listener needs it
    FOLDER/shards/00000.jsonl       checksums of these two, then a line for each file
    FOLDER/index.safetensors        the lines of all shards as arrays, mapped in training
    FOLDER/SHA256SUMS               of everything above: `sha256sum -c SHA256SUMS`

A shard counts as written once its `.jsonl` is there, and the folder is complete once it has its
checksums; both appear at once. So whoever was killed goes on with the first missing shard, and
several machines can write different shards of one folder.
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
MAPPED_SHARDS = 128  # files that a process keeps open


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """What a data set of tokens and a model have to agree on."""

    hash: str  # of weights and configuration
    name: str = field(compare=False)  # where it was loaded from; it may be elsewhere
    sample_rate: int  # Hz
    frame_rate: float  # frames per second
    channels: int
    cardinality: int
    num_codebooks: int
    frames_per_cut: int = 1  # tokens may be cut before every so many frames

    @property
    def hop_length(self) -> int:
        """Samples between two places where tokens may be cut."""
        return round(self.sample_rate * self.frames_per_cut / self.frame_rate)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform of so many samples."""
        return -(-num_samples // self.hop_length) * self.frames_per_cut


@dataclass(frozen=True, kw_only=True)
class TokenFolderHeader:
    """How a folder was made, and how its files are spread over shards."""

    tokenizer: TokenizerSpec
    wave_rate: int | None  # Hz; `None` where there are no waveforms
    wave_type: str  # one of WAVE_TYPES
    silence: list[int]  # the tokens of silence, [K]
    manifest_hash: str
    shard_ends: list[int]  # files up to the end of each shard
    version: int = VERSION

    @property
    def num_shards(self) -> int:
        return len(self.shard_ends)

    @property
    def code_type(self) -> np.dtype:
        return np.dtype(np.int16 if self.tokenizer.cardinality <= 2**15 else np.int32)

    def files_of(self, shard: int) -> range:
        """The files of a shard, by their number in the manifest."""
        return range(self.shard_ends[shard - 1] if shard else 0, self.shard_ends[shard])

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1)


def is_token_folder(source: str | Path) -> bool:
    """Whether a data source is a folder of tokens."""
    return (Path(source) / HEADER).is_file()


def read_header(folder: str | Path) -> TokenFolderHeader:
    """Read what a folder says about itself.

    Raises:
        ManifestError: It holds no tokens, or was written by another version.
    """
    path = Path(folder) / HEADER
    try:
        content = json.loads(path.read_bytes())
        version = content["version"]
        if version == VERSION:
            tokenizer = TokenizerSpec(**content.pop("tokenizer"))
            return TokenFolderHeader(tokenizer=tokenizer, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path} is no header of pre-encoded data: {error}.") from None
    raise ManifestError(
        f"{folder} was encoded in format {version} but this version reads format {VERSION}. "
        "Encode the data set again."
    )


def shard_path(folder: Path, shard: int, suffix: str) -> Path:
    """A file of a shard; `suffix` is codes, wave or jsonl."""
    return folder / SHARDS / f"{shard:05d}.{suffix}"


def missing_shards(folder: Path, header: TokenFolderHeader) -> list[int]:
    """Shards that are still to be written."""
    return [n for n in range(header.num_shards) if not shard_path(folder, n, "jsonl").is_file()]


class TokenFolder:
    """A complete folder, mapped: nothing is read before it is asked for.

    Args:
        folder: Where it is.

    Raises:
        ManifestError: It is not complete, or a file in it is missing or cut short.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.header = read_header(folder)
        if not (self.folder / SUMS).is_file():
            missing = len(missing_shards(self.folder, self.header))
            raise ManifestError(
                f"{folder} is not finished: {missing} of {self.header.num_shards} shards are "
                "missing. Run the same `python -m audiocraft encode-dataset` again; it goes on "
                "where it stopped."
            )
        self.files = MetaTable(SharedArrays.load(self.folder / INDEX))
        self._maps: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()

    def check_sizes(self) -> None:
        """See that all shards are there as a whole; their content is not looked at.

        Raises:
            ManifestError: One is missing or cut short.
        """
        for shard in range(self.header.num_shards):
            self._check_size(shard, "codes")
            if self.header.wave_rate is not None:
                self._check_size(shard, "wave")

    def number(self, column: str, row: int) -> int:
        """What the index says about a file: num_frames, num_samples, num_wave_samples, …"""
        return int(self.files.arrays[column][row])

    def codes(self, row: int, start: int, stop: int) -> np.ndarray:
        """Tokens of a file, `[frames, K]`, from frame `start` to `stop`, fewer where it ends."""
        return self._part(row, "codes", start, min(stop, self.number("num_frames", row)))

    def wave(self, row: int, start: int, stop: int) -> np.ndarray:
        """Samples of a file at the header's `wave_rate`, `[T]` float32 in [-1, 1]."""
        samples = self._part(row, "wave", start, min(stop, self.number("num_wave_samples", row)))
        scale = 2.0**-15 if samples.dtype == np.int16 else 1.0
        return np.multiply(samples, np.float32(scale), dtype=np.float32)

    def info(self, row: int) -> dict[str, tp.Any] | None:
        """The metadata of a file as it was written beside the audio, or `None`."""
        text = self.files.text("info", row)
        return None if text is None else json.loads(text)

    def problem(self, row: int) -> str | None:
        """Why a file could not be encoded, or `None`."""
        return self.files.text("problem", row)

    def _part(self, row: int, kind: str, start: int, stop: int) -> np.ndarray:
        first = self.number("first_frame" if kind == "codes" else "first_wave_sample", row)
        mapped = self.map(self.number("shard", row), kind)
        return mapped[first + start : first + max(start, stop)]

    def map(self, shard: int, kind: str) -> np.ndarray:
        """All of a shard: `codes`, `[frames, K]`, or `wave`, `[T]`."""
        key = (shard, kind)
        if key in self._maps:
            self._maps.move_to_end(key)
            return self._maps[key]
        path = shard_path(self.folder, shard, kind)
        self._check_size(shard, kind)
        dtype = self.header.code_type if kind == "codes" else np.dtype(self.header.wave_type)
        empty = path.stat().st_size == 0  # which cannot be mapped
        mapped = np.zeros(0, dtype) if empty else np.memmap(path, dtype, mode="r")
        if kind == "codes":
            mapped = mapped.reshape(-1, self.header.tokenizer.num_codebooks)
        self._maps[key] = mapped = mapped.view(np.ndarray)  # a plain one is sliced faster
        if len(self._maps) > MAPPED_SHARDS:
            self._maps.popitem(last=False)
        return mapped

    def _check_size(self, shard: int, kind: str) -> None:
        """See that a file is whole: reading a mapping beyond its end would kill the process."""
        path = shard_path(self.folder, shard, kind)
        expected = int(self.files.arrays[f"shard_{kind}_bytes"][shard])
        found = path.stat().st_size if path.is_file() else 0
        if found != expected:
            raise ManifestError(
                f"{path} has {found} bytes instead of {expected}. Delete "
                f"{shard_path(self.folder, shard, 'jsonl')} and {self.folder / SUMS}, and encode "
                "again; the other shards are kept."
            )

    def __getstate__(self):
        return self.__dict__ | {"_maps": OrderedDict()}


def check_tokenizer(source: str | Path, header: TokenFolderHeader, wanted: TokenizerSpec) -> None:
    """See that tokens are those of a model's tokenizer.

    Raises:
        ManifestError: They are of another one, or have too few codebooks.
    """
    have = header.tokenizer
    if have.hash != wanted.hash or have.sample_rate != wanted.sample_rate:
        found, model = (f"{t.hash} ({t.name}, {t.sample_rate} Hz)" for t in (have, wanted))
        problem = f"was encoded by the tokenizer {found}, but the model's is {model}"
    elif replace(have, num_codebooks=wanted.num_codebooks) != wanted:
        problem = f"was encoded as {have}, but the model reads {wanted}"
    elif have.num_codebooks < wanted.num_codebooks:
        problem = f"has {have.num_codebooks} codebooks, but the model {wanted.num_codebooks}"
    else:
        return
    raise ManifestError(
        f"{source} {problem}. Encode the data set with the model's tokenizer, or choose the "
        "data set's as compression_model_checkpoint."
    )
