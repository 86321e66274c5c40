"""Code blocks of docs/API.md and docs/MUSICGEN_STYLE.md run, with their released examples."""

import re
from pathlib import Path

import pytest
import soundfile
import torch
import torchaudio

from audiocraft.models import MusicGen

ROOT = Path(__file__).parents[2]


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


BLOCKS, STYLE_BLOCKS = blocks_of("API.md"), blocks_of("MUSICGEN_STYLE.md")
EXAMPLES = {"text": 0, "style": 1, "style and text": 2}


@pytest.fixture
def run(tiny_musicgen, tmp_path, monkeypatch):
    """Runs a block in an empty folder on a small model that generates less than half a second."""
    monkeypatch.setattr(
        MusicGen, "get_pretrained", staticmethod(lambda name, *args, **kwargs: tiny_musicgen)
    )
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)

    def run(code: str) -> dict:
        names: dict = {}
        code = code.replace("duration=8,", "duration=0.4,").replace("duration=90", "duration=4.5")
        code = code.replace("duration=8)", "duration=0.4)")
        exec(compile(code, "page", "exec"), names)
        return names

    return run


def test_every_code_block_is_covered():
    assert len(BLOCKS) == len(EXAMPLES) + 1


@pytest.mark.parametrize("example", EXAMPLES)
def test_released_api_example_writes_three_files(example, run, tmp_path):
    names = run(BLOCKS[EXAMPLES[example]])
    assert names["wav"].shape == (3, 1, 20 * 640)
    for idx in range(3):
        sound, sample_rate = soundfile.read(tmp_path / f"{idx}.wav")
        assert (len(sound), sample_rate) == (20 * 640, 32000)
        assert abs(sound).max() > 0.01


@pytest.mark.parametrize("example", ["style", "style and text"])
def test_clip_can_be_read_with_torchaudio(example, run):
    try:
        torchaudio.load(ROOT / "assets" / "electronic.mp3")
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchaudio.load needs torchcodec and the libraries of FFmpeg")
    code = BLOCKS[EXAMPLES[example]].replace("audio_read(", "torchaudio.load(")
    run("import torchaudio\n" + code)


def test_examples_use_the_guidance_they_name(run, tiny_musicgen):
    for example, beta in (("text", None), ("style", None), ("style and text", 5.0)):
        run(BLOCKS[EXAMPLES[example]])
        guidance = tiny_musicgen.generation_params.guidance
        assert (guidance.cfg_coef, guidance.cfg_coef_beta) == (3.0, beta)
    assert tiny_musicgen.style_conditioner.eval_q == 1
    assert tiny_musicgen.style_conditioner.excerpt_length == 3.0


def test_documented_seed_behaviour(run):
    names = run(BLOCKS[-1])
    assert names["two"].equal(names["again"])
    torch.testing.assert_close(names["two"][1], names["second"][0])
    assert names["tokens"].shape == (2, 4, 20)
    assert names["nothing"].shape[0] == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_style_page_example_writes_three_files(example, run, tmp_path, tiny_musicgen):
    names = run(STYLE_BLOCKS[EXAMPLES[example]])
    assert names["wav"].shape == (3, 1, 20 * 640)
    for name in "abc":
        sound, sample_rate = soundfile.read(tmp_path / f"{name}.wav")
        assert (len(sound), sample_rate) == (20 * 640, 32000)
        assert abs(sound).max() > 0.01
    beta = 5.0 if example == "style and text" else None
    assert tiny_musicgen.generation_params.guidance.cfg_coef_beta == beta


def test_style_page_generates_longer_than_one_window(run, tiny_musicgen):
    assert len(STYLE_BLOCKS) == len(EXAMPLES) + 1
    names = run(STYLE_BLOCKS[-1])
    assert names["wav"].shape == (1, 1, 225 * 640)
    assert 2 * tiny_musicgen.max_duration < 4.5
