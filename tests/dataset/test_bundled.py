"""Bundled example music: splits, formats, metadata and licences."""

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from dataset.clips import SPLITS, clip_starts, compose_piece
from dataset.composer import STYLES
from dataset.composer.labels import instruments_between
from dataset.make_example import PIECES_PER_STYLE, plan_piece

ROOT = Path(__file__).parents[2]
AUDIO = ROOT / "dataset" / "example"
FIELDS = [
    *("key", "artist", "sample_rate", "file_extension", "description", "keywords", "duration"),
    *("bpm", "genre", "title", "name", "instrument", "moods"),
]
CLIPS = sorted(path for path in AUDIO.iterdir() if path.suffix != ".json")
PLANS = [plan_piece(style, n) for style in STYLES for n in range(1, PIECES_PER_STYLE + 1)]


def read_manifest(name: str) -> list[dict]:
    lines = (ROOT / "egs" / "example" / name / "data.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def read_info(clip: Path) -> dict:
    return json.loads(clip.with_suffix(".json").read_text())


def melody_of(clip: Path) -> str:
    """Identifier of the melody, which must be in one split only: tune and genre."""
    return re.sub(r", arr\. No\. \d+$", "", read_info(clip)["title"]) + read_info(clip)["genre"]


def test_there_are_many_short_clips_of_small_size():
    assert len(CLIPS) >= 32
    assert sum(path.stat().st_size for path in AUDIO.iterdir()) <= 8_000_000
    for clip in CLIPS:
        assert 8 <= soundfile.info(clip).duration <= 30, clip.name


def test_formats_channels_and_rates_all_occur():
    infos = [soundfile.info(clip) for clip in CLIPS]

    assert {clip.suffix for clip in CLIPS} == {".wav", ".flac", ".mp3", ".ogg"}
    assert {info.channels for info in infos} == {1, 2}
    assert len({info.samplerate for info in infos}) >= 2


def test_every_style_has_many_tracks():
    pieces = defaultdict(set)
    for clip in CLIPS:
        pieces[read_info(clip)["genre"]].add(read_info(clip)["title"])

    assert len(pieces) >= 4
    assert all(len(titles) >= 5 for titles in pieces.values())


def test_no_melody_is_in_two_splits():
    splits = defaultdict(set)
    for split in SPLITS:
        for entry in read_manifest(split):
            splits[melody_of(ROOT / entry["path"])].add(split)

    assert all(len(found) == 1 for found in splits.values())


def test_splits_contain_every_style_and_partition_the_clips():
    everything = {entry["path"] for entry in read_manifest(".")}
    of_split = {split: {entry["path"] for entry in read_manifest(split)} for split in SPLITS}
    genres = {read_info(clip)["genre"] for clip in CLIPS}

    assert everything == {clip.relative_to(ROOT).as_posix() for clip in CLIPS}
    assert set().union(*of_split.values()) == everything
    assert sum(map(len, of_split.values())) == len(everything)
    for paths in of_split.values():
        assert {read_info(ROOT / path)["genre"] for path in paths} == genres


def test_manifests_match_their_files():
    for entry in read_manifest("."):
        info = soundfile.info(ROOT / entry["path"])
        assert entry["sample_rate"] == info.samplerate
        assert entry["duration"] == pytest.approx(info.duration, abs=1e-6)
        assert set(entry) == {
            "path", "duration", "sample_rate", "amplitude", "weight", "info_path"
        }  # fmt: skip


def test_each_clip_has_metadata_that_fits_its_audio():
    for clip in CLIPS:
        info, audio = read_info(clip), soundfile.info(clip)
        assert list(info) == FIELDS
        assert all(info[field] for field in FIELDS), clip.name
        assert info["name"] == clip.stem
        assert info["file_extension"] == clip.suffix[1:]
        assert info["sample_rate"] == audio.samplerate
        assert info["duration"] == pytest.approx(audio.duration, abs=1e-3)


def test_each_clip_has_a_licence():
    readme = (ROOT / "dataset" / "README.md").read_text()

    for name in [*(clip.name for clip in CLIPS), "assets/electronic.mp3"]:
        assert re.search(rf"^\| `{re.escape(name)}` \|.*\| CC0-1.0 \|$", readme, re.M), name


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.names[0])
def test_labels_match_the_composed_track(plan):
    [name], score = plan.names, compose_piece(plan)
    [start] = clip_starts(score, plan)
    info = read_info(AUDIO / name)
    beats = start * score.bpm / 60, (start + info["duration"]) * score.bpm / 60

    assert (info["bpm"], info["key"], info["title"]) == (score.bpm, score.key.name, score.title)
    assert info["moods"] == list(score.moods)
    assert info["instrument"].split(", ") == instruments_between(score, *beats)
    assert all(name in info["description"].lower() for name in info["instrument"].split(", "))


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_clips_have_valid_loudness_peaks_and_no_silence(clip):
    samples, sample_rate = soundfile.read(clip, dtype="float32", always_2d=True)
    wav = torch.from_numpy(samples.T.copy())
    loudness = float(torchaudio.functional.loudness(wav, sample_rate))
    half_seconds = np.array_split(samples.mean(axis=1), int(len(samples) / sample_rate * 2))
    quietest = min(float(np.sqrt(np.mean(part**2))) for part in half_seconds)

    assert -20 <= loudness <= -16
    assert np.abs(samples).max() < 1
    assert quietest > 10 ** (-50 / 20)


def test_the_electronic_clip_of_the_examples_exists():
    assert 10 <= soundfile.info(ROOT / "assets" / "electronic.mp3").duration <= 20
