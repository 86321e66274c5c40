"""Dataset of audio segments drawn from the files of a manifest."""

import hashlib
import logging
import math
import sys
import typing as tp
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import AudiocraftError, AudioError, ManifestError
from .audio import audio_info, audio_read
from .audio_utils import convert_audio
from .batch import Batch, SegmentInfo, stack
from .io.files import EXTENSIONS
from .manifest import (
    AudioMeta,
    PathMap,
    find_audio_files,
    load_manifest,
    save_manifest,
)
from .meta_table import MetaTable
from .sampler import SegmentSampler

logger = logging.getLogger(__name__)

load_audio_meta = load_manifest
save_audio_meta = save_manifest

CHECKED_FILES = 64  # files that `check` opens
NAMED_FILES = 3  # damaged files that its warning names


class AudioDataset(Dataset):
    """Segments of audio files, drawn by `sampler.SegmentSampler`.

    A file that cannot be read is reported once and replaced by another draw.

    Args:
        meta: File list.
        segment_duration: Duration of a segment, in seconds; `None`: whole files.
        shuffle: Draw different segments in every epoch.
        num_samples: Segments per epoch; with whole files the number of files.
        sample_rate: Sample rate of the result, in Hz.
        channels: Number of channels of the result.
        pad: Pad segments with zeros to `segment_duration`.
        sample_on_duration: Draw files in proportion to their durations.
        sample_on_weight: Draw files in proportion to their weights.
        min_segment_ratio: Minimum share of a segment that is inside its file, the rest is padding.
        max_read_retry: Maximum number of unreadable files in a row.
        return_info: Return `(wav, info)` instead of `wav`.
        min_audio_duration: Minimum duration of a file, in seconds.
        max_audio_duration: Maximum duration of a file, in seconds.
        shuffle_seed: Seed of the draws.
        load_wav: `False` returns zeros without reading audio, if only metadata is needed.
        permutation_on_files: Draw files without replacement until all were drawn.

    Raises:
        ManifestError: No file has a duration within the limits, or all weights are zero.
    """

    def __init__(
        self,
        meta: tp.Sequence[AudioMeta],
        *,
        segment_duration: float | None = None,
        shuffle: bool = True,
        num_samples: int = 10_000,
        sample_rate: int = 48_000,
        channels: int = 2,
        pad: bool = True,
        sample_on_duration: bool = True,
        sample_on_weight: bool = True,
        min_segment_ratio: float = 0.5,
        max_read_retry: int = 10,
        return_info: bool = False,
        min_audio_duration: float | None = None,
        max_audio_duration: float | None = None,
        shuffle_seed: int = 0,
        load_wav: bool = True,
        permutation_on_files: bool = False,
    ):
        self.meta = _filter_by_duration(
            meta, min_audio_duration or 0.0, max_audio_duration or math.inf
        )
        self.sampler = SegmentSampler(
            durations=torch.from_numpy(self.meta.durations),
            weights=torch.from_numpy(self.meta.weights),
            segment_duration=segment_duration,
            num_samples=num_samples,
            shuffle=shuffle,
            shuffle_seed=shuffle_seed,
            sample_on_duration=sample_on_duration,
            sample_on_weight=sample_on_weight,
            permutation_on_files=permutation_on_files,
            min_segment_ratio=min_segment_ratio,
        )
        self.segment_duration = segment_duration
        self.sample_rate = sample_rate
        self.channels = channels
        self.pad = pad
        self.max_read_retry = max_read_retry
        self.return_info = return_info
        self.load_wav = load_wav
        # In shared memory, so that persistent workers see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._reported: set[int] = set()

    @classmethod
    def from_meta(cls, root: str | Path, map_path: PathMap | None = None, **kwargs: tp.Any):
        """Build from a manifest.

        Args:
            root: The manifest, or the folder that contains it as `data.jsonl[.gz]`.
            map_path: Maps paths in the manifest to paths on this machine.
            kwargs: Arguments of the constructor.
        """
        return cls(load_manifest(root, map_path), **kwargs)

    @classmethod
    def from_path(
        cls,
        root: str | Path,
        minimal_meta: bool = True,
        exts: tp.Sequence[str] = EXTENSIONS,
        **kwargs: tp.Any,
    ):
        """Build from a folder of audio.

        Args:
            root: The folder, or a zip archive.
            minimal_meta: Read headers only, instead of decoding every file to its end.
            exts: Extensions of audio files.
            kwargs: Arguments of the constructor.
        """
        return cls(find_audio_files(root, exts, minimal=minimal_meta), **kwargs)

    def summary(self) -> dict[str, tp.Any]:
        """Number of `files`, `hours`, and a `digest` of all durations.

        Independent of the folder of the files.
        """
        durations = self.meta.durations
        return {
            "files": len(durations),
            "hours": round(float(durations.sum()) / 3600, 3),
            "digest": hashlib.sha256(durations.round(3).tobytes()).hexdigest()[:16],
        }

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to draw, in this process and its workers."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, tp.Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} is out of range for {len(self)} samples.")
        epoch = self.epoch
        rng = self.sampler.generator(epoch, index)
        problem = None
        for attempt in range(max(1, self.max_read_retry)):
            file, seek_time = self.sampler.draw(epoch, index, rng, attempt)
            try:
                wav, segment = self.read(file, seek_time)
                info = self.get_info(file, segment, wav, epoch, index)
                return (wav, info) if self.return_info else wav
            except (AudiocraftError, OSError, ValueError, RuntimeError) as error:
                problem = error
                self._report(file, error)
        raise AudioError(
            f"{max(1, self.max_read_retry)} files in a row could not be read. Last: {problem} "
            "Check the files with `audiocraft validate MANIFEST`."
        )

    def _report(self, file: int, problem: Exception) -> None:
        """Warn about a damaged file once. It is read again when drawn: draws are independent."""
        if file not in self._reported:
            self._reported.add(file)
            logger.warning("Skipping %s: %s", self.meta[file].path, problem)

    def get_info(self, file: int, segment: SegmentInfo, wav: Tensor, epoch: int, index: int):
        """Metadata of a sample, a function of (seed, epoch, index)."""
        return segment

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """Read one segment, `[C, T]`.

        Args:
            file: Index of the file.
            seek_time: Start of the segment, in seconds.

        Raises:
            AudioError: The file cannot be read, or ends before `seek_time`.
        """
        meta = self.meta[file]
        duration = -1.0 if self.segment_duration is None else self.segment_duration
        if self.load_wav:
            wav, rate = audio_read(meta.path, seek_time, duration)
            wav = convert_audio(wav, rate, self.sample_rate, self.channels)
        else:
            left = meta.duration - seek_time
            real = int((left if duration < 0 else min(left, duration)) * self.sample_rate)
            wav = torch.zeros(self.channels, real)
        total = wav.shape[-1]
        if self.segment_duration is not None:
            target = int(self.segment_duration * self.sample_rate)
            wav = wav[..., :target]
            total = target if self.pad else wav.shape[-1]
        real = wav.shape[-1]
        if not real:
            raise AudioError(f"{meta.path} has no audio at {seek_time:.3f} s.")
        if not math.isfinite(wav.sum()):  # one pass, unlike `isfinite().all()`
            raise AudioError(f"{meta.path} contains samples that are not finite.")
        segment = SegmentInfo(
            meta=meta,
            seek_time=seek_time,
            n_frames=real,
            total_frames=total,
            sample_rate=self.sample_rate,
            channels=self.channels,
        )
        return F.pad(wav, (0, total - real)) if real < total else wav, segment

    def collater(self, samples: tp.Sequence[tp.Any]) -> Batch:
        """Join samples to a batch, padded with zeros to the longest."""
        if not self.return_info:
            return Batch(wavs=stack(samples), infos=[])
        wavs, infos = zip(*samples)
        return Batch(wavs=stack(wavs), infos=list(infos))

    def check(self, limit: int = CHECKED_FILES) -> None:
        """Open some files, evenly spaced, to detect wrong paths early.

        Raises:
            AudioError: None of them can be read.
        """
        chosen = self.meta[:: max(1, len(self.meta) // limit)][:limit]
        problems = []
        for meta in chosen:
            try:
                audio_info(meta.path)
            except AudioError as error:
                problems.append(error)
        if len(problems) == len(chosen):
            raise AudioError(
                f"None of {len(chosen)} files can be read. First: {problems[0]} "
                "Correct the paths in the manifest, or write it again."
            )
        if problems:
            named = " ".join(str(problem) for problem in problems[:NAMED_FILES])
            logger.warning(
                "%d of %d files that were checked cannot be read and are skipped. %s",
                len(problems),
                len(chosen),
                named,
            )


def _filter_by_duration(meta: tp.Sequence[AudioMeta], shortest: float, longest: float) -> MetaTable:
    """Select the files whose duration is valid and within limits."""
    table = MetaTable.of(meta)
    durations = table.durations
    valid = (durations > 0) & (durations < math.inf)
    for i in np.flatnonzero(~valid):
        invalid = table[int(i)]
        logger.warning("%s is left out: its duration is %s s.", invalid.path, invalid.duration)
    kept = valid & (shortest <= durations) & (durations <= longest)
    if not kept.any():
        raise ManifestError(
            f"None of {len(table)} files has a duration from {shortest} to {longest} s. "
            "Add audio, or change min_audio_duration and max_audio_duration."
        )
    return table if kept.all() else table.select(kept)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Run `audiocraft manifest`: `python -m audiocraft.data.audio_dataset FOLDER MANIFEST`."""
    argv = sys.argv[1:] if argv is None else argv
    import_module("audiocraft.cli.main").main(["manifest", *argv])  # at this path for scripts


if __name__ == "__main__":
    main()
