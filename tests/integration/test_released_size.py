"""`facebook/musicgen-style` in Python, on the command line, on the page and in the notebook.

Files have its size and random values; durations are short, and the hub is not reached.
"""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from ..demos import browser, notebook
from ..released import place_released
from .conftest import ROOT, command

NAME = "facebook/musicgen-style"
WORDS = "A slow jazz tune with piano"
CLIP = ROOT / "dataset" / "example" / "jazz_01.mp3"

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Gigabytes of files in a cache, and an environment that finds them."""
    cache = tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)
    place_released(cache, "model/lm/model_scale=medium")
    yield {"AUDIOCRAFT_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    shutil.rmtree(cache)


PYTHON = """
import torch
from audiocraft.models import MusicGen

model = MusicGen.get_pretrained("facebook/musicgen-style", device="cpu")
model.set_generation_params(duration=0.2)
clip = 0.1 * torch.randn(2, 4 * 44100)
wav, tokens = model.generate_with_style(
    ["calm piano", None], [clip, None], 44100, return_tokens=True, seed=1
)
assert tokens.shape == (2, 4, 10), tokens.shape
assert wav.shape == (2, 1, 6400), wav.shape
assert wav.isfinite().all()
assert model.max_duration == 30.0
"""


def test_python(offline, tmp_path):
    run = command("-c", PYTHON, outputs=tmp_path, **offline)
    assert run.returncode == 0, run.output


def test_command_line(offline, tmp_path):
    making = ("--model", NAME, "--text", WORDS, "--style", str(CLIP), "--duration", "0.2")
    generate = ("-m", "audiocraft", "generate")
    run = command(*generate, *making, "--out", str(tmp_path), outputs=tmp_path, **offline)
    assert run.returncode == 0, run.output
    (path,) = tmp_path.glob("*.wav")
    wav, sample_rate = soundfile.read(path)
    assert (len(wav), sample_rate) == (6400, 32000)
    assert np.abs(wav).max() > 0
    recipe = json.loads(path.with_suffix(".json").read_text())
    assert recipe["model"] == NAME

    recalled = ("--from-recipe", str(path.with_suffix(".json")), "--out", str(tmp_path / "again"))
    run = command(*generate, *recalled, outputs=tmp_path, **offline)
    assert "the same music, bit for bit" in run.output


@browser.NEEDED
def test_page(offline, tmp_path):
    with (
        browser.Server(tmp_path, NAME, **offline) as server,
        browser.started_chromium() as chromium,
        browser.visitors(chromium, server) as visit,
    ):
        tab = visit()
        browser.upload(tab, CLIP)
        browser.choose(tab, "duration", 1)
        tab.locator("#count label").first.click()
        tab.locator("#text textarea").fill(WORDS)
        tab.click("#go")
        browser.expect(tab.locator("#player-1")).to_be_visible(timeout=1_800_000)
        with tab.expect_download() as download:
            tab.locator("#audio-1").click()
        download.value.save_as(tmp_path / "taken.wav")
    wav, sample_rate = soundfile.read(tmp_path / "taken.wav")
    assert (len(wav), sample_rate) == (32000, 32000)
    assert np.abs(wav).max() > 0


def test_notebook(offline):
    changed = notebook.load()
    first, *_ = notebook.code_cells(changed)
    first.source += f"\nMODEL, DURATION = {NAME!r}, 0.2\n"
    executed = notebook.execute(changed, timeout=1800, **offline)
    assert notebook.shown(executed) == notebook.EXPECTED
    for name in set(notebook.EXPECTED) - {"clip"}:
        for wav, sample_rate in notebook.players_of(executed[name]):
            assert (len(wav), sample_rate) == (6400, 32000)
            assert np.abs(wav).max() > 0
