"""Generated datasets: plans without leaks between splits, rendering and labels."""

import json
import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dataset import make_labelled
from dataset.clips import SPLITS, PiecePlan, clip_starts, compose_piece, make_piece, write_manifests
from dataset.composer import STYLES, compose, tunes_of
from dataset.make_example import PIECES_PER_STYLE, plan_piece
from dataset.make_labelled import make_or_reuse, parse_args, plan_from, plan_set
from dataset.render import SOUND_FONT, Encoding, RenderError, level, render, sound_font, write

CLIP = PiecePlan(style="", seed=0, split="train", seconds=15.0, num_clips=2)
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not SOUND_FONT.is_file(),
    reason="needs apt-get install fluidsynth fluid-soundfont-gm",
)


def test_a_set_has_the_requested_duration_divided_among_styles():
    plans = plan_set(hours=1, seed=0, clip=CLIP)
    counts = {style: sum(plan.style == style for plan in plans) for style in STYLES}

    assert sum(plan.seconds * plan.num_clips for plan in plans) >= 3600
    assert len(set(counts.values())) == 1
    for style in STYLES:
        assert {plan.split for plan in plans if plan.style == style} == set(SPLITS)


def test_tracks_of_sets_are_disjoint_and_not_bundled():
    first = {(plan.style, plan.seed) for plan in plan_set(hours=1, seed=0, clip=CLIP)}
    second = {(plan.style, plan.seed) for plan in plan_set(hours=1, seed=1, clip=CLIP)}

    assert len(first) == len(plan_set(hours=1, seed=0, clip=CLIP))
    assert not first & second
    assert min(seed for _, seed in first) > PIECES_PER_STYLE


def test_traditional_tunes_are_for_training_only():
    bundled = [plan_piece(style, n) for style in STYLES for n in range(1, PIECES_PER_STYLE + 1)]
    plans = plan_set(hours=4, seed=0, clip=CLIP) + bundled
    splits = defaultdict(set)
    for plan in plans:
        splits[plan.tune].add(plan.split)

    assert len(splits) > 10
    assert all(found == {"train"} for tune, found in splits.items() if tune)


def test_the_smallest_set_has_every_style_in_every_split():
    plans = plan_set(hours=0, seed=0, clip=CLIP)

    assert {(plan.style, plan.split) for plan in plans} == {
        (style, split) for style in STYLES for split in SPLITS
    }


def test_options_reach_the_plan():
    options = "OUT --hours 1 --clip_seconds 20 --clips_per_piece 1 --extension flac --channels 2"
    plans = plan_from(parse_args(options.split()))

    assert {(plan.seconds, plan.num_clips) for plan in plans} == {(20.0, 1)}
    assert plans[0].encoding == Encoding(extension="flac", channels=2)


@pytest.mark.parametrize(("num_clips", "seconds"), [(1, 10), (1, 60), (2, 15), (4, 20)])
@pytest.mark.parametrize("style", STYLES)
def test_clips_are_inside_the_track_and_do_not_overlap(style, num_clips, seconds):
    tunes = tunes_of(style)
    for seed in range(3):
        tune = tunes[seed].title if seed < len(tunes) else None
        plan = PiecePlan(
            style=style, seed=seed, split="train", seconds=seconds, num_clips=num_clips, tune=tune
        )
        score = compose_piece(plan)
        starts = clip_starts(score, plan)
        assert len(starts) == len(plan.names) == num_clips
        assert starts[0] >= 0
        assert starts[-1] + plan.seconds <= score.num_bars * score.seconds_per_bar
        assert all(b - a >= plan.seconds for a, b in pairwise(starts))


def test_normalization_reaches_the_loudness_without_clipping():
    noise = np.random.default_rng(0).normal(size=(64000, 2)).astype(np.float32)
    clicks = np.where(np.abs(noise) > 3.5, noise, noise * 0.01)

    for samples in (noise * 0.01, noise * 3, clicks):
        assert np.abs(level(samples, 32000)).max() < 0.7001
    assert level(noise * 0.01, 32000) == pytest.approx(level(noise * 0.02, 32000), abs=1e-4)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_a_long_clip_is_written_in_every_format(extension, tmp_path):
    samples = np.zeros((40 * 32000, 2), dtype=np.float32)
    encoding = Encoding(extension=extension, channels=2, compression=0.9)
    path = tmp_path / "new" / f"clip.{extension}"
    write(path, samples, encoding)

    assert soundfile.info(path).duration == pytest.approx(40)
    assert soundfile.info(path).channels == 2


def test_manifests_hold_each_entry_once_in_its_split(tmp_path):
    plans = [PiecePlan(style="jazz", seed=n, split=s, seconds=9) for n, s in enumerate(SPLITS)]
    write_manifests(tmp_path, [(plan, [{"path": plan.names[0]}]) for plan in plans])

    for plan in plans:
        text = (tmp_path / plan.split / "data.jsonl").read_text()
        assert json.loads(text) == {"path": plan.names[0]}
    assert len((tmp_path / "data.jsonl").read_text().splitlines()) == len(SPLITS)


def test_a_missing_synthesizer_names_the_installation_command(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RenderError, match="apt-get install fluidsynth"):
        sound_font()


def test_the_error_names_a_missing_sound_font(monkeypatch):
    monkeypatch.setenv("AUDIOCRAFT_SOUND_FONT", "/nowhere/font.sf2")
    with pytest.raises(RenderError, match=r"/nowhere/font\.sf2"):
        sound_font()


@needs_fluidsynth
def test_rendering_is_reproducible_and_has_the_duration_of_the_track():
    score = compose(STYLES["piano"], 1, seconds=15)
    first, second = render(score, 16000), render(score, 16000)

    np.testing.assert_array_equal(first, second)
    assert first.shape[1] == 2
    assert len(first) / 16000 >= score.num_bars * score.seconds_per_bar - 0.5
    assert np.abs(first).max() > 0.01


@needs_fluidsynth
def test_a_track_is_rendered_to_labelled_clips_once(tmp_path):
    plan = PiecePlan(style="waltz", seed=500, split="train", seconds=8.0, num_clips=2)
    entries = make_piece(plan, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    assert make_or_reuse(plan, tmp_path) == (plan, entries)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    for entry, name in zip(entries, plan.names, strict=True):
        info = json.loads(Path(entry["path"]).with_suffix(".json").read_text())
        assert info["name"] == name
        assert info["duration"] == entry["duration"] == pytest.approx(8.0)


@pytest.mark.slow
@needs_fluidsynth
def test_the_command_makes_audio_labels_and_manifests(tmp_path, monkeypatch, capsys):
    options = "--hours 0.01 --clip_seconds 8 --clips_per_piece 1 --sample_rate 16000"
    monkeypatch.setattr("sys.argv", ["make_labelled", str(tmp_path), *options.split()])
    monkeypatch.setattr("dataset.make_labelled.STYLES", {"piano": STYLES["piano"]})
    make_labelled.main()

    assert "hours of 1 styles" in capsys.readouterr().out
    for split in SPLITS:
        for line in (tmp_path / "egs" / split / "data.jsonl").read_text().splitlines():
            path = Path(json.loads(line)["path"])
            assert soundfile.info(path).samplerate == 16000
            assert json.loads(path.with_suffix(".json").read_text())["genre"] == "classical"


def test_an_impossible_set_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOCRAFT_SOUND_FONT", "/nowhere/font.sf2")
    monkeypatch.setattr("sys.argv", ["make_labelled", str(tmp_path)])
    with pytest.raises(SystemExit, match="apt-get install"):
        make_labelled.main()
