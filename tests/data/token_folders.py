"""Token folders without a tokenizer: codes are the file index and the frame index."""

import json
from pathlib import Path

import numpy as np
import soundfile

from audiocraft.data.manifest import AudioMeta
from audiocraft.data.meta_table import MetaTable
from audiocraft.data.tokens.format import TokenFolderHeader, TokenizerSpec
from audiocraft.data.tokens.writer import (
    EncodedFile,
    finish_folder,
    hash_of_manifest,
    split_into_shards,
    start_folder,
    write_shard,
)

from .conftest import RATE

HOP, K = 160, 3
FACTS = TokenizerSpec(
    hash="aaaa",
    name="//bundled/none",
    sample_rate=RATE,
    frame_rate=RATE / HOP,
    channels=1,
    cardinality=2000,
    num_codebooks=K,
)
SILENCE = [7, 8, 9]


def encoded(number: int, meta: AudioMeta, wave_rate: int | None = RATE) -> EncodedFile:
    """Tokens of a mono file; the codebooks are frame, file number and twice the frame."""
    try:
        wav, _ = soundfile.read(meta.path, dtype="int16")
    except soundfile.SoundFileError:
        nothing = np.zeros(0, np.int16)
        return EncodedFile(np.zeros((0, K)), nothing, 0, {}, f"{meta.path} is damaged.")
    frames = np.arange(FACTS.num_frames(len(wav)))
    codes = np.stack([frames, np.full_like(frames, number), 2 * frames], axis=1)
    sidecar = Path(meta.path).with_suffix(".json")
    info = json.loads(sidecar.read_text()) if sidecar.is_file() else None
    wave = wav[:: RATE // wave_rate] if wave_rate else wav[:0]
    return EncodedFile(codes, wave, len(wav), info)


def header_of(metas: list[AudioMeta], **changes) -> TokenFolderHeader:
    defaults = {
        "tokenizer": FACTS,
        "wave_rate": RATE,
        "wave_type": "int16",
        "silence": SILENCE,
        "manifest_hash": hash_of_manifest(metas),
        "shard_ends": split_into_shards(np.array([m.duration for m in metas]), 3.0),
    }
    return TokenFolderHeader(**(defaults | changes))


def write_tokens(folder: Path, metas: list[AudioMeta], **changes) -> TokenFolderHeader:
    """Write a finished token folder."""
    header = header_of(metas, **changes)
    start_folder(folder, header)
    for shard in range(header.num_shards):
        files = (encoded(n, metas[n], header.wave_rate) for n in header.files_of(shard))
        write_shard(folder, header, shard, files)
    assert finish_folder(folder, header, MetaTable.of(metas))
    return header
