"""From music as it comes to a data set: audio, a JSON file beside each, a manifest per split.

python -m audiocraft prepare SOURCE OUT [--by piece]

`OUT/audio` gets the files, `OUT/egs/SPLIT/data.jsonl` the manifests, whose paths still hold when
`OUT` is moved. A call that was stopped goes on when it is made again.
"""

import math
import os
import statistics
import typing as tp
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ...errors import AudioError, ManifestError
from ..io.files import save_json
from ..manifest import MANIFEST_NAMES, AudioMeta, save_manifest
from ..resume_log import ResumeLog
from .duplicates import find_duplicates
from .ingest import AudioFolder, IngestedTrack
from .sources import read_tracks
from .splits import Group, assign_splits, join_groups
from .statistics import AudioStatistics, compute_file_statistics

REST = "train"
SHARES = {"valid": 0.05, "evaluate": 0.05, "generate": 0.05}
NAMED = 10  # files that are named where something is wrong with many
SHORT = 2.0  # seconds: too little to learn from
QUIET = -40.0  # LUFS from where on down the report calls a file quiet
SILENT = 0.5  # share of its time from where on it calls a file silent
MEASURED = ("duration", "loudness", "silence", "peak", "clipped", "sample_rate", "channels")
FIELDS = ("key", "artist", "description", "keywords", "bpm", "genre", "title", "name")
FIELDS += ("instrument", "moods")


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How a data set is divided into splits; `train` gets what the others leave."""

    by: str = "artist"  # what stays together, as for `AudioFolder`
    shares: tp.Mapping[str, float] = field(default_factory=SHARES.copy)  # of the whole duration
    seed: int = 0  # another one draws other splits


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A piece that can be used."""

    placed: IngestedTrack
    found: AudioStatistics
    group: str
    split: str

    @property
    def meta(self) -> AudioMeta:
        """Its line in a manifest."""
        path = f"audio/{self.placed.name}"
        return AudioMeta(path, self.found.duration, self.found.sample_rate, self.found.peak)

    @property
    def metadata(self) -> dict[str, tp.Any]:
        """Its JSON file: every field, empty where nothing is known."""
        path = Path(self.placed.name)
        known = {"name": path.stem} | self.placed.fields
        return {name: known.get(name, "") for name in FIELDS} | {
            "sample_rate": self.found.sample_rate,
            "file_extension": path.suffix.removeprefix("."),
            "duration": self.found.duration,
        }


def prepare(
    source: Path,
    out: Path,
    division: SplitOptions,
    *,
    columns: tp.Mapping[str, str] | None = None,
    link: bool = False,
    report: bool = False,
    workers: int = 0,
) -> list[Entry]:
    """Make a data set, and say what was found.

    Args:
        source: As for `read_tracks`.
        out: The folder of the data set.
        division: How it is divided into splits.
        columns: Columns of a table that hold the audio or a field.
        link: Make hard links instead of copies.
        report: Also measure the loudness, and write `OUT/report.json`.
        workers: Processes that decode; 0 decodes in this one.

    Raises:
        ManifestError: There is no music, it cannot be split so, or `out` holds something else.
    """
    _check_folders(source, out, division.shares)
    place = AudioFolder(out / "audio", link, by := division.by)
    placed, problems = _put_all(source, place, columns or {})
    if placed and by not in ("artist", "piece") and all(p.group is None for p in placed):
        raise ManifestError(
            f"Nothing says what {by!r} a file belongs to. Choose artist, piece, folder, or one "
            f"of the columns: {', '.join(sorted(place.columns))}."
        )
    paths = [str(place.folder / piece.name) for piece in placed]
    with ResumeLog(out / "report.json", f"loudness={report}") as resume_log:
        found = compute_file_statistics(paths, workers, resume_log=resume_log, with_loudness=report)
        kept = []
        for piece, path in zip(placed, paths):
            result = found[path]
            if isinstance(result, AudioError) or not result.finite:
                why = result if isinstance(result, AudioError) else "samples are not finite"
                problems.append(f"{piece.origin}: {why}")
            else:
                kept.append((piece, result))
        _tell("left out", problems)
        if not kept:
            raise ManifestError(f"None of {len(problems)} files of {source} can be used.")
        _tell_of_little(kept)
        entries = _split(kept, division)
        _write(entries, out)
        if report:
            _report(entries, problems, out / "report.json")
    return entries


def _check_folders(source: Path, out: Path, shares: tp.Mapping[str, float]) -> None:
    if not source.exists():
        raise ManifestError(f"There is no {source}. Give a folder of music or a table.")
    inner, outer = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if outer.is_dir() and inner.is_relative_to(outer):
        raise ManifestError(f"{out} lies inside {source}, whose audio it would hold twice.")
    for split, share in shares.items():
        if share <= 0 and (out / "egs" / split).exists():
            raise ManifestError(
                f"{out / 'egs' / split} is left from a call with other shares, and may hold what "
                f"is now in another split. Remove it, or give --{split} a share."
            )


def _put_all(
    source: Path, place: AudioFolder, columns: tp.Mapping[str, str]
) -> tuple[list[IngestedTrack], list[str]]:
    """Bring all audio into the data set; also what could not be brought, and why."""
    placed, problems = [], []
    with tqdm(unit="file", desc="copying") as bar:
        for piece in read_tracks(source, columns):
            bar.update()
            if isinstance(piece, ManifestError):
                problems.append(str(piece))
                continue
            try:
                placed.append(place.put(piece))
            except OSError as error:
                problems.append(f"{piece.origin}: {error}")
    return placed, problems


def _tell_of_little(kept: tp.Sequence[tuple[IngestedTrack, AudioStatistics]]) -> None:
    """Say of which pieces there is little to read, or to hear."""
    untold = sum(not piece.fields.get("description") for piece, _ in kept)
    if untold:
        print(
            f"{untold} of {len(kept)} have no description: of these the model reads nothing. Put a "
            "sentence into a .txt beside each."
        )
    _tell(f"shorter than {SHORT:g} s", [p.origin for p, f in kept if f.duration < SHORT])


def _split(
    kept: tp.Sequence[tuple[IngestedTrack, AudioStatistics]], division: SplitOptions
) -> list[Entry]:
    """Draw the splits; what belongs to the same group, or sounds the same, stays together."""
    alone = sum(piece.group is None for piece, _ in kept)
    if alone:
        print(f"{alone} of {len(kept)} files name no {division.by}: each is taken for itself.")
    duplicates = find_duplicates([found for _, found in kept])
    if duplicates:
        copies = sum(len(twin.members) - 1 for twin in duplicates)
        print(f"{copies} files hold the same music as another one, and share its split.")
    names = [piece.group or f"file {piece.name}" for piece, _ in kept]
    joined = join_groups(names, duplicates)
    sizes = dict.fromkeys(joined, 0.0)
    for name, (_, found) in zip(joined, kept):
        sizes[name] += found.duration
    groups = [Group(name, size) for name, size in sizes.items()]
    splits = assign_splits(groups, division.shares, REST, division.seed)
    return [
        Entry(placed=piece, found=found, group=name, split=splits[name])
        for name, (piece, found) in zip(joined, kept)
    ]


def _write(entries: tp.Sequence[Entry], out: Path) -> None:
    """The JSON files and the manifests, and what they amount to."""
    for entry in entries:
        save_json((out / "audio" / entry.placed.name).with_suffix(".json"), entry.metadata)
    print(f"{'split':10} {'files':>8} {'groups':>8} {'hours':>8}")
    hint = []
    for split in sorted({entry.split for entry in entries}, key=[REST, *SHARES].index):
        members = [entry for entry in entries if entry.split == split]
        save_manifest(out / "egs" / split / MANIFEST_NAMES[0], [entry.meta for entry in members])
        hours = sum(entry.found.duration for entry in members) / 3600
        groups = len({entry.group for entry in members})
        print(f"{split:10} {len(members):8} {groups:8} {hours:8.2f}")
        hint.append(f"datasource.{split}={out / 'egs' / split}")
    print("Train on it with: dora run solver=musicgen/musicgen_style_tiny " + " ".join(hint))


def _report(entries: tp.Sequence[Entry], problems: tp.Sequence[str], path: Path) -> None:
    """Loudness and silence of every file as JSON, and in two sentences."""
    files = [
        {"path": entry.meta.path, "split": entry.split, "origin": entry.placed.origin}
        | {name: getattr(entry.found, name) for name in MEASURED}
        for entry in entries
    ]
    save_json(path, {"files": files, "left out": list(problems)})
    loud = sorted(e.found.loudness for e in entries if e.found.loudness is not None)
    quiet = [e.placed.origin for e in entries if (e.found.loudness or -math.inf) < QUIET]
    silent = [e.placed.origin for e in entries if e.found.silence > SILENT]
    if loud:
        print(
            f"Loudness: median {statistics.median(loud):.1f} LUFS, from {loud[0]:.1f} "
            f"to {loud[-1]:.1f}."
        )
    _tell(f"quieter than {QUIET:g} LUFS", quiet)
    _tell(f"silent for more than {SILENT:.0%} of their time", silent)
    print(f"Every file's figures: {path}")


def _tell(what: str, files: tp.Sequence[str]) -> None:
    """Name some of the files of which something is true."""
    if not files:
        return
    print(f"{len(files)} {what}:")
    for name in files[:NAMED]:
        print(f"  {name}")
    if len(files) > NAMED:
        print(f"  … and {len(files) - NAMED} more")
