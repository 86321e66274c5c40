import math

import pytest
import torch
from transformers import (
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForCausalLM,
)

from audiocraft.modules.codebooks_patterns import DelayedPatternProvider, UnrolledPatternProvider

from .tiny_lm import (
    CARD,
    CODEBOOKS,
    DIM,
    STYLE_IN_FRONT,
    TEXT_BESIDE,
    build,
    condition,
    text_and_style,
)

FUSE_METHODS = [STYLE_IN_FRONT, TEXT_BESIDE, {"sum": ["description"]}]


def conditions_for(fuse2cond, batch_size=2):
    if fuse2cond == STYLE_IN_FRONT:
        return text_and_style(batch_size)
    return {"description": condition(batch_size, 1 if "sum" in fuse2cond else 4)}


def random_codes(num_frames, batch_size=2):
    return torch.randint(CARD, (batch_size, CODEBOOKS, num_frames))


@pytest.mark.parametrize("fuse2cond", FUSE_METHODS, ids=lambda method: next(iter(method)))
@pytest.mark.parametrize("sizes", [[1] * 12, [5, 1, 6]], ids=str)
def test_decoding_with_a_cache_equals_one_full_pass(fuse2cond, sizes):
    lm, conditions, codes = build(fuse2cond), conditions_for(fuse2cond), random_codes(12)
    cache = lm.new_cache(batch_size=2, num_steps=12 + lm.num_prefix(conditions))

    full = lm(codes, conditions)
    steps = [lm(chunk, conditions, cache) for chunk in codes.split(sizes, dim=2)]

    torch.testing.assert_close(torch.cat(steps, dim=2), full)


def test_prefix_affects_logits_but_is_not_predicted():
    lm, codes, conditions = build(), random_codes(6), text_and_style(2)

    logits = lm(codes, conditions)

    assert lm.num_prefix(conditions) == 4 + 5
    assert logits.shape == (2, CODEBOOKS, 6, CARD)
    assert not torch.allclose(logits, lm(codes))


@pytest.mark.parametrize("provider", [DelayedPatternProvider(3), UnrolledPatternProvider(3)])
@pytest.mark.parametrize("valid", [True, False])
def test_prediction_is_causal(provider, valid):
    lm, codes = build(provider=provider), random_codes(6)
    steps = provider.get_pattern(6).code_steps
    changed = codes.clone()
    changed[:, 1, 3] = (codes[:, 1, 3] + 1) % CARD

    before = lm.compute_predictions(codes, {}, keep_only_valid_steps=valid)
    after = lm.compute_predictions(changed, {}, keep_only_valid_steps=valid)

    differs = (before.logits != after.logits).any(dim=-1) & before.mask
    assert not differs[:, steps <= steps[1, 3]].any()
    assert differs.any()


def test_logits_on_frames_equal_those_of_interleaved_steps():
    lm, codes, conditions = build(), random_codes(6), text_and_style(2)
    pattern = lm.pattern_provider.get_pattern(6)
    sequence = pattern.build_pattern_sequence(codes, lm.special_token_id).values

    output = lm.compute_predictions(codes, conditions, keep_only_valid_steps=False)
    logits = lm(sequence, conditions)

    assert output.mask.all()
    for k in range(CODEBOOKS):  # codebook k is delayed by k steps
        torch.testing.assert_close(output.logits[:, k], logits[:, k, k : k + 6])


def test_logits_are_nan_where_the_pattern_predicts_nothing():
    output = build().compute_predictions(random_codes(6), {})

    assert torch.equal(output.logits.isnan().any(dim=-1), ~output.mask)
    assert output.mask[0].sum(dim=-1).tolist() == [6, 5, 4]


def test_gradients_reach_every_parameter_and_stay_finite():
    lm = build(TEXT_BESIDE).train()
    output = lm.compute_predictions(random_codes(6), {"description": condition(2, 4)})

    output.logits[output.mask].square().mean().backward()

    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_embeddings_can_have_a_separate_learning_rate():
    alike, apart = build(), build(emb_lr=1e-5)

    assert len(alike.param_groups()) == 1
    others, embeddings = apart.param_groups()
    assert embeddings["lr"] == 1e-5
    assert {id(p) for p in embeddings["params"]} == {id(p) for p in apart.emb.parameters()}
    assert len(others["params"]) + len(embeddings["params"]) == len(list(apart.parameters()))


@pytest.mark.parametrize(("depthwise", "depths"), [(None, (0.5, 0.5)), ("current", (1, 2))])
def test_depthwise_init_scales_with_depth(depthwise, depths):
    wide = {"dim": 128, "weight_init": "gaussian", "depthwise_init": depthwise}
    lm = build(zero_bias_init=True, **wide)

    for layer, depth in zip(lm.transformer.layers, depths):
        weight, bound = layer.linear1.weight, 1 / math.sqrt(128 * 2 * depth)
        assert weight.abs().max() <= 3 * bound
        assert weight.std().item() == pytest.approx(bound, rel=0.05)
        assert (layer.linear1.bias == 0).all()


def test_attention_input_projection_keeps_default_init():
    lm = build(dim=64, weight_init="gaussian", depthwise_init="global")

    weight = lm.transformer.layers[1].self_attn.in_proj_weight
    assert weight.abs().max() <= 1 / math.sqrt(64)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_init": "xavier"}, "weight_init is 'xavier'. Choose one of: gaussian, uniform"),
        ({"weight_init": "uniform", "depthwise_init": "all"}, "depthwise_init is 'all'"),
        ({"depthwise_init": "current"}, "`weight_init`"),
        ({"n_q": 5}, "n_q=5 .* 3 codebooks"),
    ],
)
def test_invalid_option_raises(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_codes_with_wrong_number_of_codebooks_raise():
    with pytest.raises(ValueError, match=r"3 codebooks .* 4"):
        build()(torch.zeros(1, 4, 5, dtype=torch.long))


# Comparison with transformers' MusicGen, an independent implementation of the same model.

HF_SIZE = {
    "vocab_size": CARD,
    "hidden_size": DIM,
    "ffn_dim": 4 * DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_codebooks": CODEBOOKS,
    "max_position_embeddings": 64,
    "pad_token_id": CARD,
    "bos_token_id": CARD,
}


def copy_weights(lm, theirs):
    """Load the weights of `theirs` under our names."""
    state = {}
    decoder = theirs.model.decoder
    for k in range(CODEBOOKS):
        state[f"emb.{k}.weight"] = decoder.embed_tokens[k].weight
        state[f"linears.{k}.weight"] = theirs.lm_heads[k].weight
    for i, layer in enumerate(decoder.layers):
        ours = f"transformer.layers.{i}."
        modules = {
            "linear1": layer.fc1,
            "linear2": layer.fc2,
            "norm1": layer.self_attn_layer_norm,
            "norm2": layer.final_layer_norm,
        }
        attentions = {"self_attn": layer.self_attn}
        if hasattr(layer, "encoder_attn"):
            attentions["cross_attention"] = layer.encoder_attn
            modules["norm_cross"] = layer.encoder_attn_layer_norm
        for name, attention in attentions.items():
            parts = [attention.q_proj, attention.k_proj, attention.v_proj]
            state[f"{ours}{name}.in_proj_weight"] = torch.cat([part.weight for part in parts])
            modules[f"{name}.out_proj"] = attention.out_proj
        for name, module in modules.items():
            state |= {f"{ours}{name}.{key}": value for key, value in module.state_dict().items()}
    state |= {f"out_norm.{key}": v for key, v in decoder.layer_norm.state_dict().items()}
    lm.load_state_dict(state)


NO_BIAS = {"bias_ff": False, "bias_attn": False, "bias_proj": False}


@torch.no_grad()
def test_cross_attention_logits_equal_transformers():
    theirs = MusicgenForCausalLM(MusicgenDecoderConfig(**HF_SIZE)).eval()
    ours = build(TEXT_BESIDE, **NO_BIAS)
    copy_weights(ours, theirs)
    codes, text = random_codes(10), condition(2, 4)

    expected = theirs(
        input_ids=codes.flatten(0, 1),
        encoder_hidden_states=text.embed,
        encoder_attention_mask=torch.ones(2, 4, dtype=torch.long),
    ).logits

    logits = ours(codes, {"description": text})
    torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_prefix_logits_equal_transformers():
    theirs = MusicgenMelodyForCausalLM(MusicgenMelodyDecoderConfig(**HF_SIZE)).eval()
    ours = build(STYLE_IN_FRONT, **NO_BIAS)
    copy_weights(ours, theirs)
    codes, conditions = random_codes(10), text_and_style(2)
    prefix = torch.cat([conditions["self_wav"].embed, conditions["description"].embed], dim=1)

    expected = theirs(
        input_ids=codes.flatten(0, 1),
        encoder_hidden_states=prefix,
        encoder_attention_mask=torch.ones(2, 9, dtype=torch.long),
    ).logits[:, -10:]

    logits = ours(codes, conditions)
    torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)
