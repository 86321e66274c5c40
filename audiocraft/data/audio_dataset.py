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
from .manifest import AudioMeta, PathMap, find_audio_files, load_manifest
from .meta_table import MetaTable
from .sampler import SegmentSampler

logger = logging.getLogger(__name__)

CHECKED_FILES = 64  # how many files `check` opens
NAMED_FILES = 3  # how many damaged ones it names


class AudioDataset(Dataset):
    """Segments of audio files, drawn as `sampler.SegmentSampler` says.

    A file that cannot be read is reported, once, and another one takes its place.

    Args:
        meta: The files.
        segment_duration: Seconds of a segment; `None` means whole files.
        shuffle: Draw anew in every epoch.
        num_samples: Segments of an epoch; whole files are as many as there are.
        sample_rate: Hz, to which everything is resampled.
        channels: To which everything is mixed.
        pad: Fill segments with zeros to their full length.
        sample_on_duration: Draw files in proportion to their durations.
        sample_on_weight: Draw files in proportion to their weights.
        min_segment_ratio: Least share of a segment that is inside its file.
        max_read_retry: How many unreadable files in a row are put up with.
        return_info: Return `(wav, info)` instead of `wav`.
        min_audio_duration: Leave shorter files out, in seconds.
        max_audio_duration: Leave longer files out, in seconds.
        shuffle_seed: Another seed, another order.
        load_wav: `False` reads no audio and returns zeros, where only the metadata is wanted.
        permutation_on_files: Go through all files before any comes again.

    Raises:
        ManifestError: No file is left, or all weights are zero.
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
        self.meta = _usable(meta, min_audio_duration or 0.0, max_audio_duration or math.inf)
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
        # In shared memory, since workers that live on must hear of a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._reported: set[int] = set()

    @classmethod
    def from_meta(cls, source: str | Path, map_path: PathMap | None = None, **kwargs: tp.Any):
        """Build from a manifest or the folder that holds it."""
        return cls(load_manifest(source, map_path), **kwargs)

    @classmethod
    def from_path(cls, folder: str | Path, minimal: bool = True, **kwargs: tp.Any):
        """Build from a folder of audio."""
        return cls(find_audio_files(folder, minimal), **kwargs)

    def summary(self) -> dict[str, tp.Any]:
        """What the data set is made of: `files`, `hours`, and a `digest` of all durations.

        Music that only moved to another folder is the same.
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
        """Tell which epoch is drawn, in this process and in all its workers."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, tp.Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"Sample {index} of a data set of {len(self)}.")
        epoch = self.epoch
        rng = self.sampler.generator(epoch, index)
        problem = None
        for attempt in range(max(1, self.max_read_retry)):
            file, seek_time = self.sampler.draw(epoch, index, rng, attempt)
            try:
                wav, segment = self.read(file, seek_time)
                info = self.describe(file, segment, wav, epoch, index)
                return (wav, info) if self.return_info else wav
            except (AudiocraftError, OSError, ValueError, RuntimeError) as error:
                problem = error
                self._report(file, error)
        raise AudioError(
            f"{max(1, self.max_read_retry)} files in a row could not be used, such as: {problem}"
        )

    def _report(self, file: int, problem: Exception) -> None:
        """Name a damaged file once. It is tried again, lest a draw depend on earlier ones."""
        if file not in self._reported:
            self._reported.add(file)
            logger.warning("Skipping %s: %s", self.meta[file].path, problem)

    def describe(self, file: int, segment: SegmentInfo, wav: Tensor, epoch: int, index: int):
        """What is returned beside the waveform; deterministic in (seed, epoch, index)."""
        return segment

    def read(self, file: int, seek_time: float) -> tuple[Tensor, SegmentInfo]:
        """One segment, `[C, T]`, of the file with that number.

        Raises:
            AudioError: It cannot be read, or ends before `seek_time` seconds.
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
            raise AudioError(f"{meta.path} holds no audio at second {seek_time:.3f}.")
        if not math.isfinite(wav.sum()):  # one pass, unlike `isfinite().all()`
            raise AudioError(f"{meta.path} holds samples that are not finite.")
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
        """Open some files, evenly chosen, so that mistakes show before any work is done.

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
                f"None of {len(chosen)} files can be read, such as: {problems[0]} "
                "Correct the paths in the manifest or write it anew."
            )
        if problems:
            named = " ".join(str(problem) for problem in problems[:NAMED_FILES])
            logger.warning(
                "%d of %d files that were tried will be skipped. %s",
                len(problems),
                len(chosen),
                named,
            )


def _usable(meta: tp.Sequence[AudioMeta], shortest: float, longest: float) -> MetaTable:
    """The files whose duration is sane and within limits."""
    table = MetaTable.of(meta)
    durations = table.durations
    sane = (durations > 0) & (durations < math.inf)
    for i in np.flatnonzero(~sane):
        odd = table[int(i)]
        logger.warning("Left out: %s has a duration of %s seconds.", odd.path, odd.duration)
    kept = sane & (shortest <= durations) & (durations <= longest)
    if not kept.any():
        raise ManifestError(
            f"None of {len(table)} files lasts between {shortest} and {longest} seconds. "
            "Add audio, or change min_audio_duration and max_audio_duration."
        )
    return table if kept.all() else table.select(kept)


def main(argv: tp.Sequence[str] | None = None) -> None:
    """Run `audiocraft manifest`: `python -m audiocraft.data.audio_dataset FOLDER MANIFEST`."""
    argv = sys.argv[1:] if argv is None else argv
    import_module("audiocraft.cli.main").main(["manifest", *argv])  # at this path for scripts


if __name__ == "__main__":
    main()
