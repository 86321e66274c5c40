"""One piece becomes labelled audio files: the work that both scripts share."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import soundfile

from .composer import STYLES, Score, compose
from .composer.labels import clip_metadata
from .render import cut, level, render, write

SPLITS = ("train", "valid", "evaluate", "generate")


@dataclass(frozen=True, kw_only=True)
class PiecePlan:
    """What is to be made of one piece. A piece belongs to exactly one split."""

    style: str
    seed: int
    split: str  # one of SPLITS
    seconds: float  # length of every clip
    num_clips: int = 1
    extension: str = "ogg"  # wav | flac | ogg | mp3
    sample_rate: int = 32000
    channels: int = 1
    compression: float = 0.5  # of ogg and mp3: 0 best … 0.99 smallest

    @property
    def names(self) -> list[str]:
        """File names of the clips, without extension."""
        stem = f"{self.style}_{self.seed:02d}"
        if self.num_clips == 1:
            return [stem]
        return [f"{stem}_{index}" for index in range(1, self.num_clips + 1)]


def make_piece(plan: PiecePlan, folder: Path) -> list[dict]:
    """Compose, play, cut, label and write one piece.

    Args:
        plan: What to make.
        folder: Where audio and JSON go.

    Returns:
        One manifest entry per clip.

    Raises:
        RenderError: The synthesizer is missing or failed.
    """
    style = STYLES[plan.style]
    score = compose(style, plan.seed, seconds=max(40.0, plan.num_clips * plan.seconds + 10))
    samples = render(score, plan.sample_rate)
    if plan.channels == 1:
        samples = samples.mean(axis=1, keepdims=True)
    entries = []
    for name, start in zip(plan.names, clip_starts(score, plan), strict=True):
        clip = level(cut(samples, plan.sample_rate, start, plan.seconds), plan.sample_rate)
        path = folder / f"{name}.{plan.extension}"
        write(path, clip, plan.sample_rate, plan.compression)
        duration = soundfile.info(path).duration
        info = clip_metadata(
            style,
            score,
            name=name,
            window=(start, start + duration),
            sample_rate=plan.sample_rate,
            extension=plan.extension,
        )
        path.with_suffix(".json").write_text(json.dumps(info, indent=2) + "\n")
        entries.append(manifest_entry(path, duration, plan.sample_rate))
    return entries


def clip_starts(score: Score, plan: PiecePlan) -> list[float]:
    """Where the clips of a piece begin, in seconds: on bars, evenly spread, never overlapping.

    A single clip begins anywhere after the introduction and is over before the ending.
    """
    bar = score.seconds_per_bar
    needed = int(plan.seconds / bar + 0.999)  # bars that one clip touches
    first, last = score.first_full_bar, score.last_full_bar - needed
    if plan.num_clips == 1:
        rng = random.Random(f"{plan.style}/{plan.seed}/window")
        return [rng.randint(first, max(first, last)) * bar]
    first = max(0, min(first, last - needed * (plan.num_clips - 1)))
    spacing = (last - first) // (plan.num_clips - 1)
    return [(first + index * max(needed, spacing)) * bar for index in range(plan.num_clips)]


def manifest_entry(path: Path, duration: float, sample_rate: int) -> dict:
    """One line of a manifest, in the fields of the reference."""
    return {
        "path": path.as_posix(),
        "duration": duration,
        "sample_rate": sample_rate,
        "amplitude": None,
        "weight": None,
        "info_path": None,
    }


def write_manifest(path: Path, entries: list[dict]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def write_manifests(root: Path, made: list[tuple[PiecePlan, list[dict]]]) -> None:
    """One manifest per split under `root`, and `root/data.jsonl` with everything."""
    for split in SPLITS:
        of_split = [entry for plan, entries in made if plan.split == split for entry in entries]
        write_manifest(root / split / "data.jsonl", of_split)
    write_manifest(root / "data.jsonl", [entry for _, entries in made for entry in entries])
