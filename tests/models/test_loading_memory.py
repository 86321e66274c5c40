"""A model costs the memory of its weights once, and only when they are used.

`make test` loads real shapes of few layers; `make nightly` the 1.4 billion weights of the released
size (2.8 GB), through the same code.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from ..released import write_lm

ROOT = Path(__file__).parents[2]

# Loads a model, reads each weight, and prints the peak growth of memory, in bytes.
MEASURE = """
import re, sys
import torch
import torch._dynamo  # PyTorch does so when it formats an embedding
from audiocraft.models import loaders

def status(name):
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(rf"{name}:\\s+(\\d+) kB", text).group(1))

before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # reset the peak of the imports
lm = loaders.load_lm_model(sys.argv[1])
assert {p.dtype for p in lm.parameters()} == {torch.float16}
assert all(bool((p == 0).all()) for p in lm.parameters())
print(status("VmHWM") - before)
"""


def peak_of_loading(path: Path) -> int:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state_dict.bin", "state_dict.safetensors", "checkpoint.th"])
def test_loading_takes_no_second_copy(name, tmp_path):
    size = write_lm(tmp_path / name, "transformer_lm.num_layers=4")
    assert size > 150e6
    assert peak_of_loading(tmp_path / name) < 1.3 * size


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", ["state_dict.bin", "state_dict.safetensors"])
def test_loading_the_released_size_takes_no_second_copy(name, tmp_path):
    size = write_lm(tmp_path / name, "model/lm/model_scale=medium")
    assert size > 2.8e9
    assert peak_of_loading(tmp_path / name) < 1.3 * size
    (tmp_path / name).unlink()
