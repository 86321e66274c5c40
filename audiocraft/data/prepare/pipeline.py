"""Preparation of a data set: audio, a JSON file of metadata per file, and a manifest per split.

`OUT/audio` contains the audio and metadata, `OUT/egs/SPLIT/data.jsonl` the manifests. Their paths
are relative and stay valid when `OUT` is moved. An interrupted call resumes when it is repeated.
"""

import os
import typing as tp
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ...errors import AudioError, ManifestError
from ..io.files import check_writable, save_json
from ..manifest import MANIFEST_NAMES, AudioMeta, save_manifest
from ..resume_log import ResumeLog
from .duplicates import find_duplicates
from .ingest import TRACK_FIELDS, AudioFolder, IngestedTrack
from .sources import read_tracks
from .splits import Group, assign_splits, check_group_count, check_shares, join_groups
from .statistics import AudioStatistics, compute_file_statistics

REST = "train"  # the split of everything that the others leave
SHARES = {"valid": 0.05, "evaluate": 0.05, "generate": 0.05}
REPORTED = ("duration", "loudness", "silence", "peak", "clipped", "sample_rate", "channels")
FIELDS = ("key", "artist", "description", "keywords", "bpm", "genre", "title", "name")
FIELDS += ("instrument", "moods")


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How a data set is divided into splits; `train` gets the rest."""

    by: str = "artist"  # field that defines groups, as for `AudioFolder`
    shares: tp.Mapping[str, float] = field(default_factory=SHARES.copy)  # of the total duration
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PreparedTrack:
    """A track of a prepared data set."""

    source: IngestedTrack
    statistics: AudioStatistics
    group: str
    split: str

    @property
    def meta(self) -> AudioMeta:
        """Its manifest entry."""
        s = self.statistics
        return AudioMeta(f"audio/{self.source.name}", s.duration, s.sample_rate, s.peak)

    @property
    def metadata(self) -> dict[str, tp.Any]:
        """Content of its JSON file: every field, empty if unknown."""
        path = Path(self.source.name)
        known = {"name": path.stem} | self.source.fields
        return {name: known.get(name, "") for name in FIELDS} | {
            "sample_rate": self.statistics.sample_rate,
            "file_extension": path.suffix.removeprefix("."),
            "duration": self.statistics.duration,
        }


@dataclass(frozen=True, kw_only=True)
class PreparedDataset:
    """Result of `prepare`."""

    tracks: list[PreparedTrack]
    left_out: list[str]  # files that cannot be used, with the reason
    ignored_fields: list[str]  # metadata of an unsupported type, with the reason
    num_ungrouped: int  # tracks without the field that defines groups; each is its own group
    num_duplicates: int  # tracks with the same music as an earlier one; they share its split

    def in_split(self, split: str) -> list[PreparedTrack]:
        """The tracks of a split."""
        return [track for track in self.tracks if track.split == split]


def prepare(
    source: Path,
    out: Path,
    options: SplitOptions,
    *,
    columns: tp.Mapping[str, str] | None = None,
    link: bool = False,
    report: bool = False,
    workers: int = 0,
) -> PreparedDataset:
    """Create a data set.

    Args:
        source: Folder or table, as for `read_tracks`.
        out: Folder of the data set.
        options: How it is divided into splits.
        columns: Columns of a table that contain the audio or a field.
        link: Create hard links instead of copies.
        report: Also measure the loudness, and write `OUT/report.json`.
        workers: Number of processes that decode; 0 decodes in this one.

    Raises:
        ManifestError: The source contains no usable audio, the splits are not possible, or `out`
            contains another data set.
    """
    _check_folders(source, out, options.shares)
    check_writable(out / "report.json")
    folder = AudioFolder(out / "audio", link, options.by)
    ingested, left_out = _ingest(source, folder, columns or {})
    _check_groups(ingested, folder, options)
    with ResumeLog(out / "report.json", f"loudness={report}") as resume_log:
        paths = [str(folder.folder / track.name) for track in ingested]
        results = compute_file_statistics(
            paths, workers, resume_log=resume_log, with_loudness=report
        )
        usable = []
        for track, path in zip(ingested, paths):
            result = results[path]
            if isinstance(result, AudioError):
                left_out.append(f"{track.origin}: {result}")
            elif not result.finite:
                left_out.append(f"{track.origin}: samples are not finite")
            else:
                usable.append((track, result))
        if not usable:
            raise ManifestError(
                f"None of {len(left_out)} files of {source} can be used. First: {left_out[0]}"
            )
        dataset = _split(usable, left_out, options)
        _write(dataset, out)
        if report:
            _write_report(dataset, out / "report.json")
    return dataset


def _check_folders(source: Path, out: Path, shares: tp.Mapping[str, float]) -> None:
    """Check everything that can be checked before files are read."""
    check_shares(shares, REST)
    if not source.exists():
        raise ManifestError(f"{source} does not exist. Give a folder of audio or a table.")
    if not out.is_dir() and os.path.lexists(out):
        raise ManifestError(f"{out} is a file. Give a folder for the data set.")
    inner, outer = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if outer.is_dir() and inner.is_relative_to(outer):
        raise ManifestError(
            f"{out} is inside {source}, which would then contain its own output. "
            "Give a folder outside."
        )
    for split, share in shares.items():
        if share <= 0 and (out / "egs" / split).exists():
            raise ManifestError(
                f"{out / 'egs' / split} exists from a call with other shares, and may contain "
                f"files that are now in another split. Remove it, or give --{split} a share."
            )


def _ingest(
    source: Path, folder: AudioFolder, columns: tp.Mapping[str, str]
) -> tuple[list[IngestedTrack], list[str]]:
    """Copy or link all audio; also returns the files that cannot be used, with the reason."""
    ingested, left_out = [], []
    with tqdm(unit="file", desc="copying") as bar:
        for track in read_tracks(source, columns):
            bar.update()
            if isinstance(track, ManifestError):
                left_out.append(str(track))
                continue
            try:
                ingested.append(folder.add(track))
            except OSError as error:
                left_out.append(f"{track.origin}: {error}")
    return ingested, left_out


def _group_name(track: IngestedTrack) -> str:
    return track.group or f"file {track.name}"


def _check_groups(
    tracks: tp.Sequence[IngestedTrack], folder: AudioFolder, options: SplitOptions
) -> None:
    """Check that groups exist and suffice for the splits, before anything is decoded."""
    if not tracks:
        return
    if options.by not in TRACK_FIELDS and all(track.group is None for track in tracks):
        raise ManifestError(
            f"--by {options.by!r} is not defined for any file. Choose artist, track, folder, or a "
            f"column: {', '.join(sorted(folder.columns))}."
        )
    check_group_count(len({_group_name(track) for track in tracks}), options.shares)


def _split(
    usable: tp.Sequence[tuple[IngestedTrack, AudioStatistics]],
    left_out: list[str],
    options: SplitOptions,
) -> PreparedDataset:
    """Draw the splits; tracks of a group and duplicates stay together."""
    duplicates = find_duplicates([statistics for _, statistics in usable])
    groups = join_groups([_group_name(track) for track, _ in usable], duplicates)
    sizes = dict.fromkeys(groups, 0.0)
    for group, (_, statistics) in zip(groups, usable):
        sizes[group] += statistics.duration
    splits = assign_splits(
        [Group(name, size) for name, size in sizes.items()], options.shares, REST, options.seed
    )
    tracks = [
        PreparedTrack(source=track, statistics=statistics, group=group, split=splits[group])
        for group, (track, statistics) in zip(groups, usable)
    ]
    return PreparedDataset(
        tracks=tracks,
        left_out=left_out,
        ignored_fields=[reason for track, _ in usable for reason in track.ignored],
        num_ungrouped=sum(track.group is None for track, _ in usable),
        num_duplicates=sum(len(group.members) - 1 for group in duplicates),
    )


def _write(dataset: PreparedDataset, out: Path) -> None:
    """Write the JSON files and the manifests."""
    for track in dataset.tracks:
        save_json((out / "audio" / track.source.name).with_suffix(".json"), track.metadata)
    for split in sorted({track.split for track in dataset.tracks}):
        path = out / "egs" / split / MANIFEST_NAMES[0]
        save_manifest(path, [track.meta for track in dataset.in_split(split)])


def _write_report(dataset: PreparedDataset, path: Path) -> None:
    """Write the statistics of every file as JSON."""
    files = [
        {"path": track.meta.path, "split": track.split, "origin": track.source.origin}
        | {name: getattr(track.statistics, name) for name in REPORTED}
        for track in dataset.tracks
    ]
    save_json(path, {"files": files, "left out": dataset.left_out})
