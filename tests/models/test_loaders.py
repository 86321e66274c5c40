"""Models come back as they were saved, and strangers are refused with the difference."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.errors import CheckpointError
from audiocraft.models import MusicGen, loaders
from audiocraft.utils import export


@pytest.fixture
def checkpoint(tiny_musicgen, tiny_config, tmp_path):
    """A training checkpoint of the tiny model."""
    state = {
        "best_state": {"model": tiny_musicgen.lm.state_dict(), "metric": 5.0},
        "xp.cfg": OmegaConf.to_yaml(tiny_config),
    }
    torch.save(state, tmp_path / "checkpoint.th")
    return tmp_path / "checkpoint.th"


@pytest.fixture
def exported(checkpoint, tmp_path):
    """The same as a folder to give away."""
    folder = tmp_path / "exported"
    export.export_lm(checkpoint, folder / "state_dict.bin")
    export.export_pretrained_compression_model(
        "//pretrained/debug_compression_model", folder / "compression_state_dict.bin"
    )
    return folder


def logits(lm):
    codes = torch.arange(4 * 6).view(1, 4, 6)
    with torch.no_grad():
        return lm(codes, {})


def test_an_exported_model_gives_the_same_logits(tiny_musicgen, tiny_config, exported):
    model = MusicGen.get_pretrained(str(exported), device="cpu")
    torch.testing.assert_close(logits(model.lm), logits(tiny_musicgen.lm))
    assert model.max_duration == tiny_config.dataset.segment_duration
    assert (model.sample_rate, model.frame_rate) == (32000, 50)


def test_nothing_is_left_without_data(exported):
    lm = loaders.load_lm_model(str(exported))
    tensors = [*lm.state_dict().values(), *lm.buffers(), *lm.parameters()]
    assert not any(tensor.is_meta for tensor in tensors)


def test_a_training_checkpoint_is_a_model_too(tiny_musicgen, checkpoint):
    lm = loaders.load_lm_model(str(checkpoint))
    torch.testing.assert_close(logits(lm), logits(tiny_musicgen.lm))


def test_half_precision_keeps_the_bottleneck_exact(exported):
    lm = loaders.load_lm_model(str(exported), dtype=torch.float16)
    assert lm.emb[0].weight.dtype == torch.float16
    assert {p.dtype for p in lm.condition_provider.parameters()} == {torch.float32}


def test_weights_of_another_model_are_refused_with_the_difference(tiny_musicgen, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    weights = state["best_state"]["model"]
    weights.pop("out_norm.weight")
    weights["emb.0.weight"] = weights["emb.0.weight"][:, :8]
    torch.save(state, checkpoint)
    with pytest.raises(CheckpointError, match=r"1 missing, such as out_norm.* of another shape"):
        loaders.load_lm_weights(tiny_musicgen.lm, str(checkpoint))


def test_the_bundled_tokenizer_loads():
    tokenizer = loaders.load_compression_model("//bundled/mel_rvq_16khz")
    assert (tokenizer.sample_rate, tokenizer.frame_rate) == (16000, 50)
    assert (tokenizer.num_codebooks, tokenizer.cardinality) == (4, 1024)
    fewer = loaders.load_compression_model("//bundled/mel_rvq_16khz", num_codebooks=2)
    assert fewer.num_codebooks == 2


def test_a_mono_tokenizer_becomes_stereo():
    stereo = loaders.load_compression_model(
        "//bundled/mel_rvq_16khz", interleave={"use": True, "per_timestep": False}
    )
    assert stereo.channels == 2
    assert stereo.num_codebooks == 8


def test_a_folder_without_a_model_lists_what_it_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"state_dict\.bin"):
        loaders.load_lm_model(str(tmp_path))
