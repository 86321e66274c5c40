"""Low-rank adapters: initialization, merging, files and the check of the base model."""

import copy
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from audiocraft.errors import CheckpointError, ConfigError
from audiocraft.models.loaders import load_lm_model, load_lm_weights
from audiocraft.models.lora import (
    Lora,
    add_adapters,
    fingerprint,
    load_base_weights,
    merge_adapter,
    merged_state_dict,
    save_adapter,
)

pytest.importorskip("peft")


def logits(lm):
    codes = torch.arange(4 * 6).view(1, 4, 6)
    with torch.no_grad():
        return lm.eval()(codes, {})


@pytest.fixture
def base(tiny_musicgen):
    return tiny_musicgen.lm


def adapted(base, **options):
    """A copy with non-zero adapters."""
    model = copy.deepcopy(base)
    lora = Lora(use=True, rank=2, **options)
    add_adapters(model, lora)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model, lora


@pytest.mark.parametrize("style", [False, True])
def test_new_adapters_change_nothing_and_are_the_only_trainable_weights(base, style):
    model = copy.deepcopy(base)
    add_adapters(model, Lora(use=True, rank=2, style=style))
    torch.testing.assert_close(logits(model), logits(base), rtol=0, atol=0)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning
    assert all(".lora_" in name for name in learning)
    assert any("condition_provider" in name for name in learning) == style


@pytest.mark.parametrize("style", [False, True])
def test_merged_model_has_the_original_structure(base, style):
    model, _ = adapted(base, style=style)
    plain = copy.deepcopy(base)
    plain.load_state_dict(merged_state_dict(model))
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=1e-4)
    assert (logits(plain) - logits(base)).abs().max() > 0.1


@pytest.mark.parametrize("style", [False, True])
def test_saved_adapter_loads_into_another_copy_of_the_base(base, style, tmp_path):
    model, lora = adapted(base, style=style)
    described = {"name": "//sig/base", "fingerprint": fingerprint(base.state_dict())}
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, lora, described, path)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # by the umask
    whole = sum(t.numel() * 4 for t in base.state_dict().values())
    assert style or path.stat().st_size < whole / 3
    other = copy.deepcopy(base)
    merge_adapter(other, path)
    torch.testing.assert_close(logits(other), logits(model), atol=1e-4, rtol=1e-4)


def saved(base, tmp_path, **options):
    model, lora = adapted(base, **options)
    described = {"name": "//sig/base", "fingerprint": fingerprint(base.state_dict())}
    save_adapter(model, lora, described, tmp_path / "adapter.safetensors")
    return tmp_path / "adapter.safetensors"


def test_same_adapter_is_not_merged_twice(base, tmp_path):
    path, model = saved(base, tmp_path), copy.deepcopy(base)
    merge_adapter(model, path)
    with pytest.raises(CheckpointError, match="fingerprint"):
        merge_adapter(model, path)


@pytest.mark.parametrize("style", [False, True])
def test_loading_an_adapter_as_model_raises_with_usage(base, style, tmp_path):
    path = str(saved(base, tmp_path, style=style))
    for load in (load_lm_model, partial(load_lm_weights, copy.deepcopy(base))):
        with pytest.raises(CheckpointError, match=r"is an adapter.*`load_adapter`.*//sig/SIG"):
            load(path)


def test_another_base_raises_with_the_expected_base(base, tmp_path):
    path, other = saved(base, tmp_path), copy.deepcopy(base)
    with torch.no_grad():
        other.emb[0].weight.add_(0.1)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="belongs to //sig/base"):
        merge_adapter(other, path)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_file_without_adapter_raises(base, tmp_path):
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(CheckpointError, match=r"text\.safetensors"):
        merge_adapter(base, tmp_path / "text.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"lora\.use=true"):
        merge_adapter(base, tmp_path / "other.safetensors")


def test_model_in_half_precision_is_the_same_base(base):
    assert fingerprint(copy.deepcopy(base).half().state_dict()) == fingerprint(base.state_dict())


def test_base_weights_load_below_adapters(base):
    model, _ = adapted(base)
    other = copy.deepcopy(base)
    with torch.no_grad():
        other.emb[0].weight.add_(0.1)
    load_base_weights(model, other.state_dict())
    assert torch.equal(model.emb[0].weight, other.emb[0].weight)
    with pytest.raises(CheckpointError, match="base model"):
        load_base_weights(model, {"emb.0.weight": other.emb[0].weight})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "lora.rank=0"),
        ({"alpha": 0}, "lora.alpha"),
        ({"dropout": 1.0}, "lora.dropout"),
    ],
)
def test_invalid_lora_options_raise(options, message):
    with pytest.raises(ConfigError, match=message):
        Lora(use=True, **options)


def test_dropout_is_set_on_the_layers(base):
    model = copy.deepcopy(base)
    add_adapters(model, Lora(use=True, rank=2, dropout=0.25))
    layer = model.transformer.layers[0].linear1
    assert layer.lora_dropout["default"].p == 0.25
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("self_attn.lora_A" in name for name in names)
    assert any("out_proj.lora_A" in name for name in names)
