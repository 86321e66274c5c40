import pytest
import torch

from audiocraft.errors import ConfigError
from audiocraft.utils.device import resolve_device, resolve_dtype


@pytest.mark.parametrize(
    ("there", "expected"),
    [({"cuda", "mps"}, "cuda"), ({"cuda"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu")],
)
def test_auto_selects_the_best_available_device(there, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert resolve_device("auto") == resolve_device(None) == torch.device(expected)


def test_unknown_device_raises():
    with pytest.raises(ConfigError, match="warp"):
        resolve_device("warp")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_unavailable_gpu_raises():
    with pytest.raises(ConfigError, match="device='cuda'"):
        resolve_device("cuda")


def test_precisions_have_the_names_of_torch():
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigError, match="int7"):
        resolve_dtype("int7")
