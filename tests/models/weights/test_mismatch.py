"""Diagnosis of mismatching weights: differing keys by part, and the probable cause."""

import pytest
import torch
from torch import nn

from audiocraft.errors import CheckpointError
from audiocraft.models import builders
from audiocraft.models.weights import mismatch

from ...conftest import composed

SMALL = ("transformer_lm={dim: 32, num_heads: 2, num_layers: 1, card: 40}",)
STYLE = ("solver=musicgen/musicgen_style_32khz", *SMALL)
TEXT = ("solver=musicgen/musicgen_base_32khz", *SMALL)


def model(*overrides: str) -> nn.Module:
    with torch.device("meta"):
        return builders.get_lm_model(composed(*overrides))


def error_of(wanted: nn.Module, state) -> str:
    with pytest.raises(CheckpointError) as caught:
        mismatch.load_matching_state(wanted, state, "x.th")
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "wanted", "guess"),
    [
        (
            ("solver=musicgen/musicgen_style_32khz", "model/lm/model_scale=medium"),
            ("solver=musicgen/musicgen_style_32khz",),
            "Set model/lm/model_scale=medium.",
        ),
        (
            (*TEXT, "transformer_lm.num_layers=3"),
            TEXT,
            "Set transformer_lm.dim=32 transformer_lm.num_layers=3.",
        ),
        (STYLE, TEXT, "Set conditioner=style2music."),
        (TEXT, STYLE, "Set conditioner=text2music."),
        ((*TEXT, "conditioner=none"), TEXT, "Set conditioner=none."),
        ((*STYLE, "conditioner=style2music_tiny"), TEXT, "Set conditioner=style2music_tiny."),
        (
            ("solver=musicgen/musicgen_melody_32khz", *SMALL),
            STYLE,
            "Set conditioner=chroma2music.",
        ),
        ((*TEXT, "transformer_lm.card=50"), TEXT, "transformer_lm.card. It is 50"),
        (
            (*TEXT, "transformer_lm.n_q=2", "codebooks_pattern.delay.delays=[0,1]"),
            TEXT,
            "transformer_lm.n_q. It is 2 in the file and 4",
        ),
        ((*TEXT, "transformer_lm.bias_ff=true"), TEXT, "Set transformer_lm.bias_ff=true"),
        ((*TEXT, "transformer_lm.norm_first=false"), TEXT, "Set transformer_lm.norm_first=false"),
        (
            (*TEXT, "conditioners.description.t5.name=t5-small"),
            TEXT,
            "Set conditioners.description.t5.name=t5-small.",
        ),
        (
            (*STYLE, "conditioners.self_wav.style.transformer_scale=xsmall"),
            STYLE,
            "Set conditioners.self_wav.style.transformer_scale=xsmall.",
        ),
        (
            (*STYLE, "conditioners.self_wav.style.transformer_scale=none"),
            STYLE,
            "Set conditioners.self_wav.style.transformer_scale=none.",
        ),
        (
            (*STYLE, "conditioners.self_wav.style.model_name=musicnn"),
            STYLE,
            "Set conditioners.self_wav.style.model_name=musicnn.",
        ),
    ],
)
def test_probable_differing_setting_is_named(file, wanted, guess):
    message = error_of(model(*wanted), model(*file).state_dict())
    assert guess in message
    assert message.count("Probable cause") == 1


def test_keys_are_listed_by_part_with_an_example():
    state = model(*TEXT).state_dict()
    del state["out_norm.weight"]
    state["emb.0.weight"] = state["emb.0.weight"][:, :8]
    state["extra.a"] = state["extra.b"] = torch.zeros(1)
    message = error_of(model(*TEXT), state)
    assert "1 missing: out_norm.weight" in message
    assert "2 unexpected: extra (2); such as extra.a" in message
    assert "1 with another shape: emb.0.weight [41, 8] instead of [41, 32]" in message


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_common_key_prefix_is_detected(prefix):
    state = {prefix + key: value for key, value in model(*TEXT).state_dict().items()}
    assert f"each key begins with '{prefix}'" in error_of(model(*TEXT), state)


def test_tokenizer_instead_of_lm_is_detected():
    tokenizer = builders.get_debug_compression_model()
    assert "the file is a native EnCodec" in error_of(model(*TEXT), tokenizer.state_dict())
    assert "the file is a language model" in error_of(tokenizer, model(*TEXT).state_dict())
    bundled = {"components": torch.zeros(2, 3), "quantizer.x": torch.zeros(1)}
    assert "the file is a spectral tokenizer" in error_of(model(*TEXT), bundled)


def test_adapters_instead_of_model_are_detected():
    state = {"linears.0.lora_A.default.weight": torch.zeros(3, 2)}
    assert "the file is an adapter" in error_of(model(*TEXT), state)


def test_transformers_format_is_detected():
    state = {"decoder.model.decoder.embed_tokens.0.weight": torch.zeros(3, 2)}
    assert "Use the state_dict.bin beside it" in error_of(model(*TEXT), state)


def test_unexplained_difference_is_listed():
    own = nn.Linear(2, 3)
    message = error_of(own, {"weight": own.weight})
    assert "1 missing: bias" in message
    assert "Probable cause: unknown" in message


def test_mismatching_weights_load_nothing():
    own = nn.Linear(2, 3)
    before = own.weight.clone()
    error_of(own, {"weight": torch.zeros(3, 2)})
    assert torch.equal(own.weight, before)


def test_assign_uses_tensors_without_copying():
    own, half = nn.Linear(2, 3), nn.Linear(2, 3).half().state_dict()
    mismatch.load_matching_state(own, half, "x.th", assign=True)
    assert own.weight.dtype == torch.float16
    assert own.weight.data_ptr() == half["weight"].data_ptr()
