import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiocraft.errors import CheckpointError
from audiocraft.modules.conditioners import Musicnn, MusicnnFeatures

ASSETS = Path(__file__).parents[3] / "assets"
CHECK = Path(__file__).with_name("musicnn_check.safetensors")


def bundled(name):
    folder = ASSETS / name
    labels = json.loads((folder / "labels.json").read_text())
    return Musicnn.from_file(folder / "model.safetensors", labels)


@pytest.fixture(scope="module")
def network():
    return bundled("musicnn_mtt")


@pytest.mark.parametrize("name", ["mtt", "msd"])
def test_bundled_weights_reproduce_the_original_features(name):
    check = load_file(CHECK)
    with torch.no_grad():
        output = bundled(f"musicnn_{name}")(check["wav"])
    expected = {k.split("/")[1]: v for k, v in check.items() if k.startswith(name)}
    torch.testing.assert_close(output.tags, expected["tags"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.embedding, expected["embedding"], atol=1e-4, rtol=1e-4)
    mean = output.features.mean(dim=1)
    torch.testing.assert_close(mean, expected["features_mean"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_samples", [8_000, 24_000, 24_100])
def test_num_frames_matches_the_output(network, num_samples):
    feature_extractor = MusicnnFeatures(network)
    features = feature_extractor.features(torch.randn(1, num_samples))
    assert features.shape == (1, feature_extractor.num_frames(num_samples), feature_extractor.dim)


def test_features_depend_on_local_audio_only(network):
    wav = torch.randn(1, 48_000)
    later = wav.clone()
    later[:, 40_000:] = 0
    with torch.no_grad():
        before, after = network.frame_features(wav), network.frame_features(later)
    torch.testing.assert_close(before[:, :70], after[:, :70], atol=1e-5, rtol=1e-5)


def test_each_clip_of_any_length_has_one_embedding(network):
    with torch.no_grad():
        assert network.embed(torch.randn(2, 8_000)).shape == (2, 200)
        assert network.embed(torch.randn(1, 100_000)).shape == (1, 200)


def test_other_weights_raise(tmp_path):
    save_file({"conv2d/bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not hold MusiCNN"):
        Musicnn.from_file(tmp_path / "model.safetensors", ["rock"])
