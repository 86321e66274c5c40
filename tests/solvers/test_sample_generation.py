"""Samples during training: conditioning modes, and metadata that reproduces a sample."""

import dataclasses
import json

import pytest
import torch

from audiocraft.data.audio import audio_read
from audiocraft.solvers import sample_generation
from audiocraft.solvers.loggers import Loggers
from audiocraft.solvers.sample_generation import (
    ConditioningClip,
    ConditioningModes,
    SampleWriter,
    write_samples,
)

ALL_MODES = ConditioningModes(prompted=True, unprompted=True, use_text=True, prompt_duration=0.1)


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


def generate(model, clips, folder, modes=ALL_MODES):
    samples = SampleWriter(folder, model.sample_rate, Loggers(), {"strategy": "clip"})
    return write_samples(model, clips, modes, samples, epoch=3, batch_size=2, progress=lambda x: x)


def test_samples_are_generated_in_every_supported_mode(tiny_musicgen, clips, tmp_path):
    metrics = generate(tiny_musicgen, clips, tmp_path)
    modes = {"text", "style", "text_and_style", "continuation"}
    assert {path.name for path in tmp_path.iterdir()} == modes
    assert metrics["samples"] == 8
    assert len(list(tmp_path.glob("*/*.json"))) == 8
    assert {p.parent.name for p in tmp_path.glob("*/*.style.wav")} == {"style", "text_and_style"}


def test_clip_shorter_than_the_excerpt_is_only_used_in_other_modes(
    tiny_musicgen, clips, tmp_path, caplog
):
    short = dataclasses.replace(clips[1], wav=clips[1].wav[:, :16000])
    metrics = generate(tiny_musicgen, [clips[0], short], tmp_path)
    assert metrics["samples"] == 6
    assert {p.parent.name for p in tmp_path.glob("*/01.wav")} == {"text", "continuation"}
    assert {p.parent.name for p in tmp_path.glob("*/00.wav")} >= {"style", "text_and_style"}
    assert "01: shorter than an excerpt of 1.5 s" in caplog.text


def test_without_text_only_the_style_mode_is_left(tiny_musicgen, clips, tmp_path):
    modes = ConditioningModes(prompted=False, unprompted=True, use_text=False, prompt_duration=0.1)
    generate(tiny_musicgen, clips, tmp_path, modes)
    assert [path.name for path in tmp_path.iterdir()] == ["style"]


def test_metadata_reproduces_its_sample(tiny_musicgen, clips, tmp_path):
    generate(tiny_musicgen, clips, tmp_path)
    metadata = json.loads((tmp_path / "text_and_style" / "00.json").read_text())
    wav, _ = audio_read(tmp_path / "text_and_style" / metadata["audio"])
    again = tiny_musicgen.generate_with_style(
        [metadata["description"]],
        clips[0].wav,
        tiny_musicgen.sample_rate,
        seed=[metadata["seed"]],
        excerpt_start=metadata["excerpt_start"],
    )
    assert metadata["epoch"] == 3
    assert metadata["eval_q"] == tiny_musicgen.style_conditioner.eval_q
    assert metadata["style_path"] == "music/0.mp3"
    torch.testing.assert_close(again[0].clamp(-1, 1), wav, atol=2e-4, rtol=0)


def test_failing_picture_logs_one_warning_and_audio_is_written(
    tiny_musicgen, clips, tmp_path, caplog, monkeypatch
):
    def fail(*args, **kwargs):
        raise SyntaxError("of a title")

    monkeypatch.setattr(sample_generation, "plot_audio", fail)
    assert generate(tiny_musicgen, clips, tmp_path)["samples"] == 8
    assert [r.message for r in caplog.records if "picture" in r.message] == [
        "No pictures of samples: SyntaxError: of a title"
    ]
    assert not list(tmp_path.glob("*/*.png"))
