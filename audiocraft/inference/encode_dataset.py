"""`python -m audiocraft encode-dataset`: the tokens of a data set, computed once.

Shards are shared out to processes, each with a tokenizer of its own, and each on one of the GPUs
where there are any. A shard that is written is never touched again, so the same command goes on
after a kill. `data/token_cache.py` says what the folder holds, `whole_files.py` how files are
encoded.
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

WORTH_A_PROCESS = 0.5  # hours of audio, below which starting a process takes longer than it saves


@dataclass(frozen=True, kw_only=True)
class EncodingParams:
    """How a data set is encoded.

    Args:
        tokenizer: Its name, as for `load_compression_model`.
        num_codebooks: Use only so many; `None` uses all.
        stereo: `codebooks` or `timesteps`: how a mono tokenizer encodes left and right;
            `None` encodes what the tokenizer encodes.
        wave_rate: Samples per second of the waveforms kept for the style conditioner; 0 keeps
            none, `None` keeps them at the tokenizer's rate.
        wave_type: `int16`, or `float32` without any loss.
        shard_minutes: Audio in a shard, about which much is done again after a kill; `None` makes
            64 of them, each 1 to 60 minutes long.
        device: `auto`, `cpu`, `cuda`; processes take turns on the GPUs.
        workers: Processes; `None` is one per CPU, with GPUs at most four for each, and no more
            than there is work for.
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
                f"wave_type is {self.wave_type!r}. Choose one of: {', '.join(WAVE_TYPES)}."
            )
        if self.stereo not in (None, "codebooks", "timesteps"):
            raise ConfigError(f"stereo is {self.stereo!r}. Choose codebooks or timesteps.")
        for name in ("wave_rate", "workers"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must be at least 0 but is {value}.")
        if self.shard_minutes is not None and not self.shard_minutes > 0:
            raise ConfigError(f"shard_minutes must be positive but is {self.shard_minutes}.")

    def load(self, device: torch.device | str) -> CompressionModel:
        """The tokenizer."""
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
    """Encode a data set into a folder, or go on where somebody stopped.

    Args:
        metas: Its files. Those that cannot be read keep their place, so that everybody draws
            what the audio data set would.
        folder: Where to write.
        encoding: How.
        part: Write only every `parts`-th shard, from this one on: for several machines.
        parts: How many such parts there are.
        progress: Show a bar.

    Returns:
        Whether the folder is complete; otherwise other parts are missing.

    Raises:
        ManifestError: The folder holds something else, or cannot be written.
        CheckpointError: There is no such tokenizer.
        ConfigError: There is no such part.
    """
    if not 0 <= part < parts:
        raise ConfigError(f"part is {part} of {parts}. Choose 0 to {parts - 1}.")
    table = MetaTable.of(metas)
    try:
        header = new_header(table, folder, encoding)
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
            f"{folder} cannot be written: {error}. Free space, or give another folder; what is "
            "written already stays."
        ) from error


def new_header(metas: MetaTable, folder: Path, encoding: EncodingParams) -> TokenFolderHeader:
    """What a folder of these files shall say about itself; begun ones keep their shards."""
    model = encoding.load("cpu")
    facts = describe_tokenizer(model, encoding.tokenizer)
    manifest_hash = hash_of_manifest(metas)
    minutes = encoding.shard_minutes or min(max(metas.durations.sum() / 60 / 64, 1.0), 60.0)
    shard_ends = split_into_shards(metas.durations, 60 * minutes)
    if is_token_folder(folder):
        begun = read_header(folder)
        shard_ends = begun.shard_ends if begun.manifest_hash == manifest_hash else shard_ends
    wave_rate = facts.sample_rate if encoding.wave_rate is None else encoding.wave_rate
    return TokenFolderHeader(
        tokenizer=facts,
        wave_rate=wave_rate or None,
        wave_type=encoding.wave_type,
        silence=encode_silence(model, facts),
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
    """Encode shards, as many at a time as there are workers; yields those that are written."""
    device = resolve_device(encoding.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    workers = encoding.workers
    if workers is None:
        most = 1 + int(_hours(metas, header, shards) / WORTH_A_PROCESS)
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
            "A process that encodes was killed, perhaps for want of memory. Run the same command "
            "again, with fewer --workers: what is written already stays."
        ) from None
    except BaseException:  # Ctrl-C too; what they have not finished would be lost anyway
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
    """Prepare a process: one thread, one of the GPUs, and an end when the parent is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is told to the parent
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if gpus:
        torch.cuda.set_device(number % gpus)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@lru_cache(maxsize=1)
def _loaded(encoding: EncodingParams) -> tuple[CompressionModel, torch.device]:
    """The tokenizer of this process, and the device that it is on."""
    device = resolve_device(encoding.device)
    return encoding.load(device), device


def _encode_shard(
    folder: Path,
    header: TokenFolderHeader,
    encoding: EncodingParams,
    shard: int,
    metas: list[AudioMeta],
) -> None:
    model, device = _loaded(encoding)
    write_shard(folder, header, shard, (encode_file(model, device, header, m) for m in metas))


def encode_file(
    model: CompressionModel, device: torch.device, header: TokenFolderHeader, meta: AudioMeta
) -> EncodedFile:
    """Encode one file with its metadata; what cannot be read is told in `problem`."""
    facts = header.tokenizer
    try:
        info = read_raw_info(meta)
    except ManifestError:
        info = None
    try:
        wav, rate = audio_read(meta.path)
        wav = convert_audio(wav, rate, facts.sample_rate, facts.channels)
        if not wav.isfinite().all():
            raise AudioError(f"{meta.path} holds samples that are not finite.")
        if not wav.shape[-1]:
            raise AudioError(f"{meta.path} holds no audio.")
    except (AudiocraftError, OSError, ValueError, RuntimeError) as error:
        nothing = np.zeros((0, facts.num_codebooks), header.code_type)
        return EncodedFile(nothing, np.zeros(0, header.wave_type), 0, info, str(error))
    codes = encode_chunked(model, facts, wav.to(device)).t()
    wave = np.zeros(0, header.wave_type)
    if header.wave_rate is not None:
        mono = resample(wav.mean(dim=0), facts.sample_rate, header.wave_rate)
        wave = _stored(mono, header.wave_type)
    return EncodedFile(codes.cpu().numpy(), wave, wav.shape[-1], info)


def _stored(wave: Tensor, wave_type: str) -> np.ndarray:
    if wave_type == "int16":
        wave = (wave * 2**15).round().clamp(-(2**15), 2**15 - 1)
    return wave.numpy().astype(wave_type)
