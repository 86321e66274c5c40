"""Model builders: configuration keys become arguments, unknown keys raise."""

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.models import builders
from audiocraft.modules.conditioners import StyleConditioner

from ..conftest import composed


@pytest.fixture
def config(tiny_config):
    return OmegaConf.create(OmegaConf.to_container(tiny_config, resolve=True))


def assert_rejected(config, message, build=builders.get_lm_model):
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        build(config)


def test_conditioners_are_built_in_the_order_of_the_configuration(config):
    with torch.device("meta"):
        lm = builders.get_lm_model(config)
    provider = lm.condition_provider
    assert list(provider.conditioners) == ["self_wav", "description"]
    assert isinstance(provider.conditioners["self_wav"], StyleConditioner)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transformer_lm.speed", 3, r"transformer_lm\.speed"),
        ("transformer_lm.d_model", 3, r"transformer_lm\.d_model"),
        ("conditioners.self_wav.style.volume", 1, r"self_wav\.style\.volume"),
        ("conditioners.self_wav.model", "ear", r"conditioners\.self_wav\.model='ear'"),
        ("conditioners.self_wav.style.model_name", "ear", r"model_name='ear'"),
        ("codebooks_pattern.modeling", "spiral", r"modeling='spiral'.*delay"),
        ("codebooks_pattern.delay.delay", [0], r"codebooks_pattern\.delay\.delay"),
        ("lm_model", "markov", r"lm_model='markov'"),
        ("fuser.prepend", ["unused"], "'self_wav'.*prepend"),
    ],
)
def test_unknown_key_or_value_raises_and_is_named(config, key, value, message):
    OmegaConf.update(config, key, value, force_add=True)
    assert_rejected(config, message)


def test_deprecated_keys_of_old_checkpoints_are_ignored(config):
    OmegaConf.update(config, "transformer_lm.memory_efficient", True, force_add=True)
    OmegaConf.update(config, "transformer_lm.custom", False, force_add=True)
    with torch.device("meta"):
        builders.get_lm_model(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transformer_lm.n_q", 8, r"transformer_lm\.n_q=8 .* 4 codebooks"),
        ("transformer_lm.card", 7, r"transformer_lm\.card=7 .* 400 entries"),
        ("sample_rate", 8000, r"sample_rate=8000 .* 32000 Hz"),
        ("channels", 2, r"channels=2 .* 1 channels"),
        ("conditioners.self_wav.style.ds_rate_compression", 320, r"=320 but .* 640"),
    ],
)
def test_tokenizer_mismatch_raises_with_both_values(config, key, value, message):
    tokenizer = builders.get_debug_compression_model(sample_rate=32000)
    builders.check_tokenizer_matches(config, tokenizer)
    OmegaConf.update(config, key, value)
    assert_rejected(config, message, lambda cfg: builders.check_tokenizer_matches(cfg, tokenizer))


def test_dropout_probabilities_match_the_configuration(config):
    everything, each = builders.get_lm_model(config).condition_dropouts
    assert everything.p == 0.1
    assert each.p == {"text": {"description": 0.4}, "wav": {"self_wav": 0.4}}
    assert not each.active_on_eval


def test_no_condition_dropout_without_conditioners():
    config = composed(
        "solver=musicgen/musicgen_base_32khz",
        "conditioner=none",
        "transformer_lm={dim: 32, num_heads: 2, num_layers: 1}",
    )
    everything, each = builders.get_lm_model(config).condition_dropouts
    assert everything.p == 0
    assert not any(each.p.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transformer_lm.n_q", 2, r"codebooks_pattern\.delay: delays is .* Give 2 numbers"),
        ("transformer_lm.checkpointing", "all", "transformer_lm: checkpointing is 'all'"),
        ("conditioners.self_wav.style.ds_factor", 0, r"conditioners\.self_wav: ds_factor"),
    ],
)
def test_rejected_value_raises_with_its_config_node(config, key, value, message):
    OmegaConf.update(config, key, value)
    with pytest.raises(ConfigError, match=message):
        builders.get_lm_model(config)
