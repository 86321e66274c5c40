import math

import pytest
import torch
from torch import nn

from audiocraft.errors import CheckpointError
from audiocraft.modules.conditioners import (
    EncodecFeatures,
    MertFeatures,
    build_hubert,
    load_hubert_state,
)
from audiocraft.modules.conditioners.mert import MERT_CONFIG, OLD_NAMES

from .stubs import style_conditioner
from .test_style import clips, encode, rng

TINY = MERT_CONFIG | {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
}


class TinyCodec(nn.Module):
    """A codec with two codebooks of 16 levels and one frame per 8 samples."""

    sample_rate, frame_rate, cardinality, total_codebooks = 800, 100.0, 16, 2

    def encode(self, x):
        coarse = x[:, 0, ::8].abs().mul(3).long() % 16
        return torch.stack([coarse, coarse.roll(1, dims=1)], dim=1), None


@pytest.fixture(scope="module")
def hubert():
    torch.manual_seed(0)
    return build_hubert(TINY).eval()


def test_mert_features_equal_the_network_output(hubert):
    wav = torch.randn(2, 4000)
    feature_extractor = MertFeatures(lambda: hubert, dim=32)
    with torch.no_grad():
        torch.testing.assert_close(feature_extractor.features(wav), hubert(wav).last_hidden_state)


@pytest.mark.parametrize("num_samples", [400, 719, 720, 4000, 36_000])
def test_mert_num_frames_matches_its_output(hubert, num_samples):
    feature_extractor = MertFeatures(hubert, dim=32)
    assert feature_extractor.features(torch.randn(1, num_samples)).shape[
        1
    ] == feature_extractor.num_frames(num_samples)


def test_mert_hop_is_the_product_of_its_strides():
    assert math.prod(MERT_CONFIG["conv_stride"]) == MertFeatures.hop_length


@pytest.mark.parametrize("old_names", [True, False])
def test_weights_load_in_both_spellings_of_weight_norm(hubert, tmp_path, old_names):
    state = hubert.state_dict()
    if old_names:
        for old, new in OLD_NAMES.items():
            state = {key.replace(new, old): value for key, value in state.items()}
    torch.save(state, tmp_path / "pytorch_model.bin")

    other = build_hubert(TINY).eval()
    load_hubert_state(other, tmp_path / "pytorch_model.bin")

    wav = torch.randn(1, 4000)
    torch.testing.assert_close(other(wav).last_hidden_state, hubert(wav).last_hidden_state)


def test_other_weights_raise(hubert, tmp_path):
    torch.save({"encoder.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        load_hubert_state(hubert, tmp_path / "pytorch_model.bin")


def test_codec_tokens_can_be_features():
    style = style_conditioner(feature_extractor=EncodecFeatures(TinyCodec(), n_q=2)).eval()
    assert style.state_dict()["embed.1.weight"].shape == (16, 16)
    assert encode(style, clips(1.0, 0.0)).embed[0].any()


def test_codebook_embeddings_are_summed():
    feature_extractor = EncodecFeatures(TinyCodec(), n_q=2)
    embed = feature_extractor.new_embed(4)
    tokens = feature_extractor.features(torch.randn(1, 80))
    expected = embed[0](tokens[..., 0]) + embed[1](tokens[..., 1])
    torch.testing.assert_close(embed(tokens), expected)


def test_fewer_codebooks_of_the_codec_can_be_used():
    style = style_conditioner(feature_extractor=EncodecFeatures(TinyCodec(), n_q=2)).eval()
    style.set_params(encodec_n_q=1)
    assert style.feature_extractor.features(torch.randn(1, 80)).shape == (1, 10, 1)
    assert encode(style, clips(1.0)).embed.any()
    with pytest.raises(ValueError, match="Choose 1 to 2"):
        style.set_params(encodec_n_q=3)


def test_codec_with_too_few_codebooks_raises():
    with pytest.raises(ValueError, match="encodec_n_q is 3 but the codec has 2"):
        EncodecFeatures(TinyCodec(), n_q=3)


def test_null_batch_works_with_token_features():
    style = style_conditioner(feature_extractor=EncodecFeatures(TinyCodec(), n_q=2)).train()
    encode(style, clips(0.0), rng()).embed.sum().backward()
    assert all(weight.grad is not None for weight in style.parameters())
