"""Condition sensitivity: detection of effects and coverage of their confidence intervals."""

import json

import numpy as np
import pytest
import torch

from audiocraft.cli.main import main
from audiocraft.data.audio import audio_write
from audiocraft.data.conditions import ConditioningAttributes
from audiocraft.errors import ConfigError
from audiocraft.metrics.condition_sensitivity import (
    STYLE_CONDITIONS,
    TEXT_CONDITIONS,
    ConditionSensitivity,
    LabelledClip,
    SensitivityCondition,
    conditional_cross_entropy,
    draw_conditions,
    measure_condition_sensitivity,
)
from audiocraft.models import MusicGen

RATE = 32000


def some_clips(styles=2, tracks=2, each=2, seconds=2.0) -> list[LabelledClip]:
    rng = torch.Generator().manual_seed(0)
    return [
        LabelledClip(
            name=f"{style}_{track}_{number}",
            track=f"{style}_{track}",
            style=str(style),
            text=f"music of kind {style}",
            wav=0.1 * torch.randn(1, int(seconds * RATE), generator=rng),
        )
        for style in range(styles)
        for track in range(tracks)
        for number in range(each)
    ]


def synthetic_results(
    effects: dict[str, float], tracks=30, noise=0.01, seed=0
) -> ConditionSensitivity:
    """Synthetic results: cross entropies vary widely between targets, and effects are small."""
    rng = np.random.default_rng(seed)
    own = rng.normal(3, 1, size=(tracks * 2, 1))
    table = own + rng.normal(0, noise, size=(tracks * 2, len(STYLE_CONDITIONS + TEXT_CONDITIONS)))
    for name, effect in effects.items():
        table[:, (STYLE_CONDITIONS + TEXT_CONDITIONS).index(name)] += effect
    return ConditionSensitivity(table, tuple(str(i // 2) for i in range(tracks * 2)))


def test_conditions_have_the_kind_they_name():
    clips = some_clips(styles=3)
    by_wav = {id(clip): clip for clip in clips}
    for index, target in enumerate(clips):
        conditions = {t.name: t for t in draw_conditions(clips, index, 1.5, RATE, seed=0)}
        assert tuple(conditions) == STYLE_CONDITIONS + TEXT_CONDITIONS

        def source(excerpt):
            return next(
                clip
                for clip in by_wav.values()
                if any(
                    clip.wav[:, s : s + 48000].equal(excerpt)
                    for s in (clip.wav[0] == excerpt[0, 0]).nonzero()[:, 0].tolist()
                )
            )

        same_track, same_style, other = (
            source(conditions[name].style) for name in STYLE_CONDITIONS[:3]
        )
        assert same_track.track == target.track
        assert same_track is not target
        assert same_style.style == target.style
        assert same_style.track != target.track
        assert other.style != target.style
        assert conditions["right text"].text == target.text != conditions["wrong text"].text
        assert conditions["no style"][1:] == conditions["no text"][1:] == (None, None)


@pytest.mark.parametrize("shape", [{"tracks": 1}, {"each": 1}, {"styles": 1}])
def test_manifest_without_required_clips_raises(shape):
    with pytest.raises(ConfigError, match="two clips of every track, two tracks of every style"):
        draw_conditions(some_clips(**shape), 0, 1.5, RATE, 0)


def test_cross_entropy_equals_that_of_the_model(tiny_musicgen):
    wav = some_clips()[0].wav
    conditions = [
        SensitivityCondition("no text"),
        SensitivityCondition("right text", text="waltz"),
        SensitivityCondition("no style"),
    ]
    all_frames = conditional_cross_entropy(tiny_musicgen, wav, conditions)
    assert all_frames[0] == all_frames[2]
    assert all_frames[0] != all_frames[1]
    first = conditional_cross_entropy(tiny_musicgen, wav, conditions, seconds=0.5)
    assert first.isfinite().all()
    assert not torch.equal(first, all_frames)
    codes, _ = tiny_musicgen.compression_model.encode(wav[None])
    provider = tiny_musicgen.lm.condition_provider
    empty = provider(provider.prepare([ConditioningAttributes(text={"description": None})], None))
    with torch.no_grad():
        output = tiny_musicgen.lm.compute_predictions(codes, empty)
    log_p = output.logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]  # [1, K, F]
    expected = -torch.stack([row[m].mean() for row, m in zip(log_p[0], output.mask[0])]).mean()
    torch.testing.assert_close(all_frames[0], expected)


def test_measuring_is_deterministic_and_covers_every_target(tiny_musicgen):
    clips = some_clips()
    one, again = (
        measure_condition_sensitivity(tiny_musicgen, clips, excerpt=1.5, draws=2) for _ in range(2)
    )
    assert one.table.shape == (len(clips), len(STYLE_CONDITIONS + TEXT_CONDITIONS))
    assert np.isfinite(one.table).all()
    np.testing.assert_array_equal(one.table, again.table)


def test_effect_smaller_than_target_variance_is_detected():
    sensitivity = synthetic_results({"other style": 0.02, "wrong text": 0.02, "same piece": -0.001})
    assert sensitivity.is_lower("same style", "other style")
    assert sensitivity.is_lower("right text", "wrong text")
    low, high = sensitivity.difference("same style", "other style")[1:]
    assert low < 0.02 < high


def test_false_positives_are_rare():
    found = sum(
        synthetic_results({}, seed=s).is_lower("same style", "other style") for s in range(60)
    )
    assert found <= 6  # 5 % by chance, in both directions


def test_confidence_intervals_cover_the_true_effect():
    covered = 0
    for seed in range(100):
        _, low, high = synthetic_results({"wrong text": 0.01}, seed=seed).difference(
            "no text", "wrong text"
        )
        covered += low < 0.01 < high
    assert 85 <= covered <= 100


def test_targets_of_one_track_are_not_independent():
    rng = np.random.default_rng(0)
    by_track = np.repeat(rng.normal(0, 1, size=(20, 1)), 10, axis=0)
    table = np.concatenate([np.zeros((200, 2)), by_track, np.zeros((200, 4))], axis=1)
    mean, low, high = ConditionSensitivity(
        table, tuple(str(i // 10) for i in range(200))
    ).difference("same style", "other style")
    assert high - low > 3.0 * np.sqrt(1 / 20)  # not of 200 targets
    assert low < mean < high


def test_command_prints_and_writes_the_results(tiny_musicgen, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(MusicGen, "get_pretrained", staticmethod(lambda *a, **k: tiny_musicgen))
    lines = []
    for clip in some_clips():
        path = audio_write(tmp_path / clip.name, clip.wav, RATE)
        info = {"genre": clip.style, "title": clip.track, "description": clip.text}
        path.with_suffix(".json").write_text(json.dumps(info))
        lines.append(json.dumps({"path": str(path), "duration": 2.0, "sample_rate": RATE}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    out = tmp_path / "sensitivity.json"
    main(["condition-sensitivity", "tiny", str(tmp_path), "--excerpt", "1.5", "--json", str(out)])
    printed, report = capsys.readouterr().out, json.loads(out.read_text())
    assert "8 targets of 4 tracks" in printed
    assert list(report["conditions"]) == list(STYLE_CONDITIONS + TEXT_CONDITIONS)
    for question in report["questions"]:
        assert question["asked"] in printed


def test_clip_without_label_raises(tiny_musicgen, monkeypatch, tmp_path):
    monkeypatch.setattr(MusicGen, "get_pretrained", staticmethod(lambda *a, **k: tiny_musicgen))
    path = audio_write(tmp_path / "a", some_clips()[0].wav, RATE)
    path.with_suffix(".json").write_text("{}")
    line = {"path": str(path), "duration": 2.0, "sample_rate": RATE}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    with pytest.raises(SystemExit, match=r"a.wav has no genre"):
        main(["steering", "tiny", str(tmp_path)])
