"""Encoding of a data set to tokens, shard by shard, in several processes.

Each process has its own copy of the tokenizer, on one of the GPUs if there are any. A finished
shard is never written again, so that the same call resumes an interrupted one. The format of the
folder is defined in `data/tokens/format.py`, the encoding of long files in
`models/codecs/chunked_encoding.py`.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import typing as tp
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.audio import audio_read
from ..data.audio_utils import convert_audio, resample
from ..data.loaders import num_cpus
from ..data.manifest import AudioMeta
from ..data.meta_table import MetaTable
from ..data.music_info import read_raw_info
from ..data.tokens.format import (
    WAVE_TYPES,
    TokenFolderHeader,
    is_token_folder,
    missing_shards,
    read_header,
)
from ..data.tokens.writer import (
    EncodedFile,
    finish_folder,
    hash_of_manifest,
    split_into_shards,
    start_folder,
    write_shard,
)
from ..errors import AudiocraftError, AudioError, ConfigError, ManifestError
from ..models.codecs.base import CompressionModel
from ..models.codecs.chunked_encoding import describe_tokenizer, encode_chunked, encode_silence
from ..models.loaders import load_compression_model
from ..utils.device import resolve_device

HOURS_PER_WORKER = 0.5  # of audio; with less, starting a process takes longer than it saves


@dataclass(frozen=True, kw_only=True)
class EncodingParams:
    """Parameters of the encoding of a data set.

    Args:
        tokenizer: Name of the tokenizer, as for `load_compression_model`.
        num_codebooks: Number of codebooks; `None` uses all.
        stereo: Interleaving of left and right with a mono tokenizer, `codebooks` or `timesteps`;
            `None` encodes the channels of the tokenizer.
        wave_rate: Sample rate of the waveforms kept for the style conditioner, in Hz; 0 keeps
            none, `None` uses the rate of the tokenizer.
        wave_type: Type of these waveforms, `int16` or `float32` (lossless).
        shard_minutes: Minutes of audio per shard, the most that is encoded again after a kill;
            `None` gives 64 shards of 1 to 60 minutes each.
        device: `auto`, `cpu` or `cuda`; processes are distributed over the GPUs.
        workers: Number of processes; `None` is one per CPU, at most four per GPU, and one per
            half hour of audio.
    """

    tokenizer: str
    num_codebooks: int | None = None
    stereo: str | None = None
    wave_rate: int | None = None
    wave_type: str = "int16"
    shard_minutes: float | None = None
    device: str = "auto"
    workers: int | None = None

    def __post_init__(self):
        if self.wave_type not in WAVE_TYPES:
            raise ConfigError(
                f"wave_type={self.wave_type!r} is not supported. "
                f"Supported: {', '.join(WAVE_TYPES)}."
            )
        if self.stereo not in (None, "codebooks", "timesteps"):
            raise ConfigError(
                f"stereo={self.stereo!r} is not supported. Supported: codebooks, timesteps."
            )
        for name in ("wave_rate", "workers"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must be at least 0 but is {value}.")
        if self.shard_minutes is not None and not self.shard_minutes > 0:
            raise ConfigError(f"shard_minutes must be positive but is {self.shard_minutes}.")

    def load(self, device: torch.device | str) -> CompressionModel:
        """Load the tokenizer."""
        interleave = {"use": self.stereo is not None, "per_timestep": self.stereo == "timesteps"}
        return load_compression_model(
            self.tokenizer, device, num_codebooks=self.num_codebooks, interleave=interleave
        )


def encode_dataset(
    metas: tp.Sequence[AudioMeta],
    folder: Path,
    encoding: EncodingParams,
    part: int = 0,
    parts: int = 1,
    progress: bool = False,
) -> bool:
    """Encode a data set into a folder, or resume.

    Args:
        metas: Files of the data set. Unreadable ones keep their place, so that a seed draws the
            same files as from the audio data set.
        folder: Output folder.
        encoding: Parameters.
        part: Index of the shards to write, of every `parts` consecutive ones: for several
            machines.
        parts: Number of parts.
        progress: Whether to show a progress bar.

    Returns:
        Whether the folder is complete; otherwise shards of other parts are missing.

    Raises:
        ManifestError: The folder contains something else, or cannot be written.
        CheckpointError: The tokenizer does not exist.
        ConfigError: `part` is out of range.
    """
    if not 0 <= part < parts:
        raise ConfigError(
            f"part={part} is out of range: with parts={parts} it is 0 to {parts - 1}."
        )
    table = MetaTable.of(metas)
    try:
        header = create_header(table, folder, encoding)
        start_folder(folder, header)
        wanted = [n for n in missing_shards(folder, header) if n % parts == part]
        hidden = not (progress and wanted)
        hours = _hours(table, header, wanted)
        with tqdm(total=hours, unit="h", unit_scale=True, disable=hidden) as bar:
            for shard in _encode_shards(table, folder, header, encoding, wanted):
                bar.update(_hours(table, header, [shard]))
        return finish_folder(folder, header, table)
    except OSError as error:
        raise ManifestError(
            f"{folder} cannot be written: {error}. Free disk space or choose another folder. "
            "Finished shards are kept."
        ) from error


def create_header(metas: MetaTable, folder: Path, encoding: EncodingParams) -> TokenFolderHeader:
    """Return the header of the folder; that of an unfinished folder keeps its shards."""
    model = encoding.load("cpu")
    spec = describe_tokenizer(model, encoding.tokenizer)
    manifest_hash = hash_of_manifest(metas)
    minutes = encoding.shard_minutes or min(max(metas.durations.sum() / 60 / 64, 1.0), 60.0)
    shard_ends = split_into_shards(metas.durations, 60 * minutes)
    if is_token_folder(folder):
        existing = read_header(folder)
        shard_ends = existing.shard_ends if existing.manifest_hash == manifest_hash else shard_ends
    wave_rate = spec.sample_rate if encoding.wave_rate is None else encoding.wave_rate
    return TokenFolderHeader(
        tokenizer=spec,
        wave_rate=wave_rate or None,
        wave_type=encoding.wave_type,
        silence=encode_silence(model, spec),
        manifest_hash=manifest_hash,
        shard_ends=shard_ends,
    )


def _hours(metas: MetaTable, header: TokenFolderHeader, shards: list[int]) -> float:
    files = itertools.chain.from_iterable(header.files_of(shard) for shard in shards)
    return sum(metas.durations[file] for file in files) / 3600


def _encode_shards(
    metas: MetaTable,
    folder: Path,
    header: TokenFolderHeader,
    encoding: EncodingParams,
    shards: list[int],
) -> tp.Iterator[int]:
    """Encode shards in parallel; yield the index of each finished one."""
    device = resolve_device(encoding.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    workers = encoding.workers
    if workers is None:
        most = 1 + int(_hours(metas, header, shards) / HOURS_PER_WORKER)
        workers = min(most, num_cpus(), 4 * gpus or most)
    workers = min(workers, len(shards))
    if workers <= 1:
        for shard in shards:
            _encode_shard(folder, header, encoding, shard, _metas_of(metas, header, shard))
            yield shard
        return
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (context.Value("i", 0), gpus))
    try:
        jobs = {
            pool.submit(_encode_shard, folder, header, encoding, n, _metas_of(metas, header, n)): n
            for n in shards
        }
        for job in as_completed(jobs):
            job.result()
            yield jobs[job]
    except BrokenProcessPool:
        raise ManifestError(
            "An encoding process was killed, perhaps because memory ran out. Run the same command "
            "again, with fewer --workers. Finished shards are kept."
        ) from None
    except BaseException:  # Ctrl-C too; unfinished shards are lost in any case
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _metas_of(metas: MetaTable, header: TokenFolderHeader, shard: int) -> list[AudioMeta]:
    files = header.files_of(shard)
    return metas[files.start : files.stop]


def _start_worker(counter: tp.Any, gpus: int) -> None:
    """Initialize a process: one thread, one GPU, and exit when the parent is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if gpus:
        torch.cuda.set_device(number % gpus)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@lru_cache(maxsize=1)
def _load_tokenizer(encoding: EncodingParams) -> tuple[CompressionModel, torch.device]:
    """Load the tokenizer of this process; return it with its device."""
    device = resolve_device(encoding.device)
    return encoding.load(device), device


def _encode_shard(
    folder: Path,
    header: TokenFolderHeader,
    encoding: EncodingParams,
    shard: int,
    metas: list[AudioMeta],
) -> None:
    model, device = _load_tokenizer(encoding)
    write_shard(folder, header, shard, (encode_file(model, device, header, m) for m in metas))


def encode_file(
    model: CompressionModel, device: torch.device, header: TokenFolderHeader, meta: AudioMeta
) -> EncodedFile:
    """Encode a file with its metadata; an unreadable one is empty, with the reason in `problem`."""
    spec = header.tokenizer
    try:
        info = read_raw_info(meta)
    except ManifestError:
        info = None
    try:
        wav, rate = audio_read(meta.path)
        wav = convert_audio(wav, rate, spec.sample_rate, spec.channels)
        if not wav.isfinite().all():
            raise AudioError(f"{meta.path} contains samples that are not finite.")
        if not wav.shape[-1]:
            raise AudioError(f"{meta.path} contains no audio.")
    except (AudiocraftError, OSError, ValueError, RuntimeError) as error:
        nothing = np.zeros((0, spec.num_codebooks), header.code_type)
        return EncodedFile(nothing, np.zeros(0, header.wave_type), 0, info, str(error))
    codes = encode_chunked(model, spec, wav.to(device)).t()
    wave = np.zeros(0, header.wave_type)
    if header.wave_rate is not None:
        mono = resample(wav.mean(dim=0), spec.sample_rate, header.wave_rate)
        wave = _quantize_wave(mono, header.wave_type)
    return EncodedFile(codes.cpu().numpy(), wave, wav.shape[-1], info)


def _quantize_wave(wave: Tensor, wave_type: str) -> np.ndarray:
    if wave_type == "int16":
        wave = (wave * 2**15).round().clamp(-(2**15), 2**15 - 1)
    return wave.numpy().astype(wave_type)
