"""Clips of a piece as labelled audio files, and their manifests; used by both scripts."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from .composer import STYLES, TUNES_BY_TITLE, Score, compose
from .composer.labels import clip_metadata
from .render import Encoding, cut, level, render, write

SPLITS = ("train", "valid", "evaluate", "generate")


@dataclass(frozen=True, kw_only=True)
class PiecePlan:
    """Settings of one piece and its clips. A piece belongs to exactly one split."""

    style: str
    seed: int
    split: str  # one of SPLITS
    seconds: float  # length of every clip
    num_clips: int = 1
    tune: str | None = None  # arrange this old tune, a key of TUNES_BY_TITLE
    encoding: Encoding = field(default_factory=Encoding)

    @property
    def names(self) -> list[str]:
        """File names of the clips, without extension."""
        stem = f"{self.style}_{self.seed:02d}"
        if self.num_clips == 1:
            return [stem]
        return [f"{stem}_{index}" for index in range(1, self.num_clips + 1)]


def compose_piece(plan: PiecePlan) -> Score:
    """Compose the piece of a plan, long enough for all its clips."""
    wanted = plan.num_clips * plan.seconds
    return compose(
        STYLES[plan.style],
        plan.seed,
        seconds=max(40.0, 1.5 * wanted - 5),  # only whole sections: it may turn out shorter
        tune=TUNES_BY_TITLE[plan.tune] if plan.tune else None,
    )


def make_piece(plan: PiecePlan, folder: Path) -> list[dict]:
    """Compose, render, cut, label and write one piece.

    Args:
        plan: Settings of the piece.
        folder: Output folder of audio and JSON.

    Returns:
        One manifest entry per clip.

    Raises:
        RenderError: The synthesizer is missing or failed.
    """
    score = compose_piece(plan)
    encoding = plan.encoding
    rate, extension = encoding.sample_rate, encoding.extension
    samples = render(score, rate)
    if encoding.channels == 1:
        samples = samples.mean(axis=1, keepdims=True)
    entries = []
    for name, start in zip(plan.names, clip_starts(score, plan), strict=True):
        clip = level(cut(samples, rate, start, plan.seconds), rate)
        path = folder / f"{name}.{extension}"
        write(path, clip, encoding)
        duration = soundfile.info(path).duration
        info = clip_metadata(
            STYLES[plan.style],
            score,
            name=name,
            window=(start, start + duration),
            sample_rate=rate,
            extension=extension,
        )
        path.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        entries.append(manifest_entry(path, duration, rate))
    return entries


def clip_starts(score: Score, plan: PiecePlan) -> list[float]:
    """Return the starts of the clips, in seconds: on bars, evenly spaced, not overlapping.

    A single clip starts with the tune if there is one, and otherwise at a random bar between the
    introduction and the ending.
    """
    bar = score.seconds_per_bar
    needed = int(plan.seconds / bar + 0.999)  # bars that one clip overlaps
    first, last = score.first_full_bar, score.last_full_bar - needed
    if plan.num_clips == 1 and plan.tune:
        return [first * bar]
    if plan.num_clips == 1:
        rng = random.Random(f"{plan.style}/{plan.seed}/window")
        return [rng.randint(min(first, last), last) * bar]
    first = max(0, min(first, last - needed * (plan.num_clips - 1)))
    spacing = (last - first) // (plan.num_clips - 1)
    return [(first + index * max(needed, spacing)) * bar for index in range(plan.num_clips)]


def manifest_entry(path: Path, duration: float, sample_rate: int) -> dict:
    """Return one manifest line, with the fields of the released format."""
    return {
        "path": path.as_posix(),
        "duration": duration,
        "sample_rate": sample_rate,
        "amplitude": None,
        "weight": None,
        "info_path": None,
    }


def write_manifest(path: Path, entries: list[dict]) -> None:
    """Write entries as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def write_manifests(root: Path, made: list[tuple[PiecePlan, list[dict]]]) -> None:
    """Write one manifest per split under `root`, and `root/data.jsonl` with all entries."""
    for split in SPLITS:
        of_split = [entry for plan, entries in made if plan.split == split for entry in entries]
        write_manifest(root / split / "data.jsonl", of_split)
    write_manifest(root / "data.jsonl", [entry for _, entries in made for entry in entries])
