"""Samples of a run: every way of conditioning, and recipes that make a sample again."""

import dataclasses
import json

import pytest
import torch

from audiocraft.data.audio import audio_read
from audiocraft.solvers.loggers import Loggers
from audiocraft.solvers.sample_generation import (
    ConditioningClip,
    ConditioningModes,
    SampleWriter,
    write_samples,
)

EVERYTHING = ConditioningModes(prompted=True, unprompted=True, use_text=True, prompt_duration=0.1)


@pytest.fixture
def clips():
    rng = torch.Generator().manual_seed(0)
    return [
        ConditioningClip(
            name=f"{i:02d}",
            wav=0.1 * torch.randn(1, 64000, generator=rng),
            description=["calm piano", None][i],
            path=f"music/{i}.mp3",
            seek_time=1.5,
            seed=i,
        )
        for i in range(2)
    ]


def listen(model, clips, folder, ways=EVERYTHING):
    samples = SampleWriter(folder, model.sample_rate, Loggers(), {"strategy": "clip"})
    return write_samples(model, clips, ways, samples, epoch=3, batch_size=2, progress=lambda x: x)


def test_every_way_that_the_model_knows_is_heard(tiny_musicgen, clips, tmp_path):
    metrics = listen(tiny_musicgen, clips, tmp_path)
    ways = {"text", "style", "text_and_style", "continuation"}
    assert {path.name for path in tmp_path.iterdir()} == ways
    assert metrics["samples"] == 8
    assert len(list(tmp_path.glob("*/*.json"))) == 8
    assert {p.parent.name for p in tmp_path.glob("*/*.style.wav")} == {"style", "text_and_style"}


def test_a_clip_shorter_than_an_excerpt_is_heard_where_it_can_be(
    tiny_musicgen, clips, tmp_path, caplog
):
    short = dataclasses.replace(clips[1], wav=clips[1].wav[:, :16000])
    metrics = listen(tiny_musicgen, [clips[0], short], tmp_path)
    assert metrics["samples"] == 6
    assert {p.parent.name for p in tmp_path.glob("*/01.wav")} == {"text", "continuation"}
    assert {p.parent.name for p in tmp_path.glob("*/00.wav")} >= {"style", "text_and_style"}
    assert "No samples in the style of 01: shorter than an excerpt of 1.5 s." in caplog.text


def test_without_text_only_the_style_is_left(tiny_musicgen, clips, tmp_path):
    ways = ConditioningModes(prompted=False, unprompted=True, use_text=False, prompt_duration=0.1)
    listen(tiny_musicgen, clips, tmp_path, ways)
    assert [path.name for path in tmp_path.iterdir()] == ["style"]


def test_a_recipe_makes_its_sample_again(tiny_musicgen, clips, tmp_path):
    listen(tiny_musicgen, clips, tmp_path)
    recipe = json.loads((tmp_path / "text_and_style" / "00.json").read_text())
    wav, _ = audio_read(tmp_path / "text_and_style" / recipe["audio"])
    again = tiny_musicgen.generate_with_style(
        [recipe["description"]],
        clips[0].wav,
        tiny_musicgen.sample_rate,
        seed=[recipe["seed"]],
        excerpt_start=recipe["excerpt_start"],
    )
    assert recipe["epoch"] == 3
    assert recipe["eval_q"] == tiny_musicgen.style_conditioner.eval_q
    assert recipe["style_path"] == "music/0.mp3"
    torch.testing.assert_close(again[0].clamp(-1, 1), wav, atol=2e-4, rtol=0)
