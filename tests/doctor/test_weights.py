"""Sources of weights: reported without loading or downloading."""

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from audiocraft.doctor import weights
from audiocraft.doctor.weights import (
    CheckpointProgress,
    get_checkpoint_progress,
    get_weight_sources,
)
from audiocraft.environment import AudioCraftEnvironment
from audiocraft.solvers.checkpoint import Checkpoints
from tests.conftest import composed

TINY = "solver=musicgen/musicgen_style_tiny"
STYLE = ("solver=musicgen/musicgen_style_32khz", "model/lm/model_scale=medium")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Empty cache of the hub."""
    monkeypatch.setattr(AudioCraftEnvironment, "get_cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def checkpoints(tmp_path):
    (tmp_path / "xp").mkdir()
    return Checkpoints(tmp_path / "xp")


def found(cfg, checkpoints):
    return {
        s.part: s
        for s in get_weight_sources(cfg, checkpoints, get_checkpoint_progress(checkpoints))
    }


def saved(checkpoints, epochs=2, updates=5):
    history = [{"valid": {"ce": 1.0}}] * epochs
    checkpoints.save({"history": history, "progress": {"updates": updates}})


def test_a_new_model_has_random_weights_from_the_seed(checkpoints):
    sources = found(composed(TINY, "seed=7"), checkpoints)
    assert "seed=7" in sources["language model"].where
    assert sources["tokenizer"].where.endswith("assets/mel_rvq_16khz/model.safetensors")
    assert sources["self_wav: feature extractor"].where.endswith("assets/musicnn_mtt")
    assert all(source.is_here for source in sources.values())


def test_the_model_of_continue_from_is_found(checkpoints, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": torch.zeros(1)}, folder / "state_dict.safetensors")
    source = found(composed(TINY, f"continue_from={folder}"), checkpoints)["language model"]
    assert source.where == str(folder / "state_dict.safetensors")
    assert source.why == f"continue_from: {folder}"


def test_a_checkpoint_of_the_run_takes_precedence_over_continue_from(checkpoints):
    saved(checkpoints)
    assert get_checkpoint_progress(checkpoints) == CheckpointProgress(2, 5)
    source = found(composed(TINY, "continue_from=//sig/abc"), checkpoints)["language model"]
    assert source.where == str(checkpoints.last)
    assert "2 epochs and 5 updates" in source.why
    assert "continue_from=//sig/abc" in source.why


def test_missing_weights_are_a_problem(checkpoints):
    cfg = composed(TINY, "continue_from=//sig/ffffffff", "compression_model_checkpoint=/no/file")
    sources = found(cfg, checkpoints)
    for part, name in (("language model", "//sig/ffffffff"), ("tokenizer", "/no/file")):
        assert not sources[part].is_here
        assert name in sources[part].problem


def test_weights_of_the_hub_are_reported_and_not_downloaded(cache, checkpoints, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)  # it must not be called
    cfg = composed(*STYLE, "continue_from=//pretrained/facebook/musicgen-style")
    sources = found(cfg, checkpoints)
    assert set(sources) == {
        "language model",
        "tokenizer",
        "self_wav: feature extractor",
        "description",
    }
    for source in sources.values():
        assert str(cache) in source.where
        assert not source.is_here
    assert "m-a-p/MERT-v1-95M" in sources["self_wav: feature extractor"].why
    assert "CC-BY-NC" in sources["self_wav: feature extractor"].why


def test_weights_of_the_hub_are_a_problem_without_network(cache, checkpoints, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = found(composed(*STYLE), checkpoints)["tokenizer"]
    assert "facebook/encodec_32khz" in source.problem
    assert "HF_HUB_OFFLINE" in source.problem


def test_weights_in_the_cache_are_found(cache, checkpoints):
    folder = cache / "models--facebook--encodec_32khz"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "model.safetensors"
    file.touch()
    source = found(composed(*STYLE), checkpoints)["tokenizer"]
    assert source.where == f"{file} (in the cache)"
    assert source.is_here


def test_a_feature_extractor_may_be_a_codec(cache, checkpoints):
    cfg = composed(TINY, "conditioners.self_wav.style.model_name=encodec")
    source = found(cfg, checkpoints)["self_wav: feature extractor"]
    assert source.where.endswith("assets/mel_rvq_16khz/model.safetensors")


def test_the_debug_tokenizer_has_random_weights(checkpoints):
    source = found(composed("solver=musicgen/debug"), checkpoints)["tokenizer"]
    assert source.is_here
    assert "random weights" in source.where


def test_progress_is_readable():
    assert str(CheckpointProgress(3, 0)) == "3 epochs"
    assert weights.CheckpointProgress(0, 2).updates == 2
