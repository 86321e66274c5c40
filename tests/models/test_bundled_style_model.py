"""`//bundled/musicgen_style_tiny`: size, precision and condition sensitivity match its card."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from audiocraft.data.audio import audio_read
from audiocraft.data.audio_utils import convert_audio
from audiocraft.environment import bundled_dir
from audiocraft.metrics.condition_sensitivity import LabelledClip, measure_condition_sensitivity
from audiocraft.models import MusicGen

NAME = "musicgen_style_tiny"
EXAMPLE = Path(__file__).parents[2] / "dataset" / "example"


@pytest.fixture(scope="module")
def model() -> MusicGen:
    return MusicGen.get_pretrained(f"//bundled/{NAME}", device="cpu")


def test_files_are_small_and_half_precision():
    folder = bundled_dir() / NAME
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12_000_000
    with safe_open(folder / "state_dict.safetensors", "pt") as file:
        kinds = {str(file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}
        assert "/work/" not in file.metadata()["xp.cfg"]


def test_output_has_the_model_sample_rate(model):
    model.set_generation_params(duration=1.0)
    wav = model.generate(["a calm solo piano"], seed=7)
    assert (model.sample_rate, model.max_duration) == (16000, 10.0)
    assert wav.shape == (1, 1, 16000)
    assert wav.abs().max() > 0.01


@pytest.mark.slow
def test_style_and_text_affect_loss_on_held_out_bundled_clips(model):
    clips = []
    for path in sorted(EXAMPLE.glob("*_0[1-3].json")):
        info = json.loads(path.read_text())
        (audio,) = (p for p in EXAMPLE.glob(f"{path.stem}.*") if p.suffix != ".json")
        wav, rate = audio_read(audio, 0.0, 8.0)
        wav = convert_audio(wav, rate, model.sample_rate, 1)
        for number, half in enumerate(wav.chunk(2, dim=-1)):
            text = info["description"]
            clips.append(
                LabelledClip(
                    name=f"{path.stem}_{number}",
                    track=path.stem,
                    style=info["genre"],
                    text=text,
                    wav=half,
                )
            )
    torch.set_num_threads(1)
    sensitivity = measure_condition_sensitivity(model, clips, excerpt=2.0, seconds=1.0)
    assert len(set(sensitivity.tracks)) == 30
    assert sensitivity.is_lower("same style", "other style")
    assert sensitivity.is_lower("right text", "wrong text")
