"""Models are built and loaded with the keywords that scripts for the original use."""

import dataclasses
import inspect

import pytest
import torch
import transformers

import audiocraft.models
from audiocraft.models import CompressionModel, LMModel, MusicGen, loaders
from audiocraft.models.builders import get_debug_compression_model
from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditionProvider
from audiocraft.modules.transformer import TransformerSpec
from audiocraft.utils import export

DEBUG_CODEC = "//pretrained/debug_compression_model"


def test_a_language_model_accepts_its_and_transformer_keywords():
    lm = LMModel(
        pattern_provider=DelayedPatternProvider(n_q=2),
        condition_provider=ConditionProvider({}),
        fuser=ConditionFuser({}),
        n_q=2,
        card=8,
        dim=16,
        num_heads=2,
        hidden_scale=2,
        norm="layer_norm",
        norm_first=True,
        emb_lr=None,
        bias_proj=False,
        weight_init="gaussian",
        depthwise_init="current",
        zero_bias_init=True,
        cfg_dropout=0.5,
        cfg_coef=2.0,
        attribute_dropout={"text": {"description": 0.25}},
        two_step_cfg=True,
        num_layers=1,
        causal=True,
    )
    assert [dropout.p for dropout in lm.condition_dropouts] == [
        0.5,
        {"text": {"description": 0.25}},
    ]
    assert (lm.cfg_coef, lm.two_step_cfg) == (2.0, True)
    signature = inspect.signature(LMModel).parameters
    fields = {f.name: f.default for f in dataclasses.fields(TransformerSpec)}
    for name in fields.keys() - {"d_model", "dim_feedforward", "norm_first"}:
        default = signature[name].default
        assert default is inspect.Parameter.empty or default == fields[name], name


def test_the_debug_model_generates_from_text_style_and_a_prompt():
    model = MusicGen.get_pretrained(name="debug", device="cpu")
    model.set_generation_params(duration=0.1)
    clip = torch.randn(1, 1, 4 * model.sample_rate) / 10
    expected = model.generate(descriptions=["a"], progress=False, seed=1)
    assert expected.shape == (1, 1, 3200)
    styled = model.generate_with_chroma(
        descriptions=["a"], melody_wavs=clip, melody_sample_rate=model.sample_rate, seed=1
    )
    assert not torch.equal(styled, expected)
    prompt = clip[..., :1280]
    model.generate_continuation(prompt=prompt, prompt_sample_rate=model.sample_rate)
    again = MusicGen.get_pretrained(name="debug", device="cpu")
    again.set_generation_params(duration=0.1)
    assert torch.equal(again.generate(["a"], seed=1), expected)


@pytest.mark.parametrize("name", loaders.SHORT_NAMES)
def test_a_short_name_is_a_hub_id_with_a_warning(name):
    with pytest.warns(FutureWarning, match=loaders.SHORT_NAMES[name]):
        assert loaders.full_name(name) == loaders.SHORT_NAMES[name]
    assert loaders.full_name(loaders.SHORT_NAMES[name]) == loaders.SHORT_NAMES[name]


def test_codecs_are_loaded_by_name_and_device(tmp_path):
    for name in (DEBUG_CODEC, "debug_compression_model"):
        codec = CompressionModel.get_pretrained(name=name, device="cpu")
        assert codec.total_codebooks == 4
    path = export.export_pretrained_compression_model(
        pretrained_encodec=DEBUG_CODEC, out_file=tmp_path / "c.bin"
    )
    loaded = loaders.load_compression_model(
        file_or_url_or_id=path, device="cpu", cache_dir=tmp_path
    )
    assert type(loaded) is type(get_debug_compression_model())
    content = loaders.load_compression_model_ckpt(file_or_url_or_id=path, cache_dir=tmp_path)
    assert content == {"pretrained": DEBUG_CODEC}


def test_the_wrapped_codec_of_transformers_has_its_original_name():
    assert audiocraft.models.HFEncodecModel is transformers.EncodecModel
