"""A model costs the memory of its weights once, and only when they are used.

`make test` loads real shapes of few layers; `make nightly` the 1.4 billion weights of the released
size (2.8 GB), through the same code.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.models import MusicGen, builders, pretrained
from audiocraft.modules.conditioners import build_hubert
from audiocraft.utils.weight_files import write_safetensors_file

from ..conftest import composed

STYLE = "solver=musicgen/musicgen_style_32khz"
ROOT = Path(__file__).parents[2]

# Loads a model, reads each weight, and tells by how much memory grew at its worst, in bytes.
MEASURE = """
import re, sys
import torch
from audiocraft.models import loaders

def status(name):
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(rf"{name}:\\s+(\\d+) kB", text).group(1))

before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of the imports
lm = loaders.load_lm_model(sys.argv[1])
assert {p.dtype for p in lm.parameters()} == {torch.float16}
assert all(bool((p == 0).all()) for p in lm.parameters())
print(status("VmHWM") - before)
"""


def zeros(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=torch.float16 if like.is_floating_point() else None)


def noise(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape).mul_(0.02).half() if like.is_floating_point() else zeros(like)


def write(path: Path, *overrides: str, fill=zeros) -> int:
    """A file of float16 weights in the layout of its suffix; returns their size in bytes."""
    config = composed(STYLE, *overrides)
    with torch.device("meta"):
        shapes = builders.get_lm_model(config).state_dict()
    state = {key: fill(value) for key, value in shapes.items()}
    text = OmegaConf.to_yaml(config)
    if path.suffix == ".safetensors":
        write_safetensors_file(path, state, {"xp.cfg": text})
    elif path.suffix == ".th":  # a run also keeps its latest weights and the optimizer's
        other = {key: value.clone() for key, value in state.items()}
        content = {"best_state": {"model": state}, "model": other, "optimizer": {"state": other}}
        torch.save(content | {"xp.cfg": text}, path)
    else:
        torch.save({"best_state": state, "xp.cfg": text}, path)
    return sum(value.numel() * value.element_size() for value in state.values())


def peak_of_loading(path: Path) -> int:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state_dict.bin", "state_dict.safetensors", "checkpoint.th"])
def test_loading_takes_no_second_copy(name, tmp_path):
    size = write(tmp_path / name, "transformer_lm.num_layers=4")
    assert size > 150e6
    assert peak_of_loading(tmp_path / name) < 1.3 * size


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", ["state_dict.bin", "state_dict.safetensors"])
def test_loading_the_released_size_takes_no_second_copy(name, tmp_path):
    size = write(tmp_path / name, "model/lm/model_scale=medium")
    assert size > 2.8e9
    assert peak_of_loading(tmp_path / name) < 1.3 * size
    (tmp_path / name).unlink()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_model_of_the_released_size_makes_music_from_a_clip(offline):
    """All files of facebook/musicgen-style in their size, but T5: random, brought by hand."""
    torch.manual_seed(0)
    folder = offline.place("facebook/musicgen-style", "state_dict.bin").parent
    write(folder / "state_dict.bin", "model/lm/model_scale=medium", fill=noise)
    config = composed("solver=compression/encodec_musicgen_32khz")
    codec = {"best_state": builders.get_compression_model(config).state_dict()}
    torch.save(codec | {"xp.cfg": OmegaConf.to_yaml(config)}, folder / "compression_state_dict.bin")
    mert = offline.place(pretrained.MERT, "pytorch_model.bin")
    torch.save(build_hubert().state_dict(), mert)

    model = MusicGen.get_pretrained("facebook/musicgen-style", device="cpu")
    model.set_generation_params(duration=0.2)
    clip = 0.1 * torch.randn(2, 4 * 44100)
    wav, tokens = model.generate_with_style(
        [None, None], [clip, None], 44100, return_tokens=True, seed=1
    )

    assert tokens.shape == (2, 4, 10)
    assert wav.shape == (2, 1, 6400)
    assert wav.isfinite().all()
    assert model.max_duration == 30.0
    shutil.rmtree(offline.folder)  # gigabytes
