import pytest
import torch

from audiocraft.modules.transformer import StreamingTransformer, sin_embedding

TINY = {"d_model": 16, "num_heads": 4, "num_layers": 2, "dim_feedforward": 32, "dropout": 0.0}
KINDS = [
    {"memory_efficient": True},
    {"custom": True, "positional_embedding": "rope"},
    {"memory_efficient": True, "positional_embedding": "sin_rope", "xpos": True},
    {"memory_efficient": True, "past_context": 3},
    {"cross_attention": True, "norm_first": False},
    {"memory_efficient": True, "cross_attention": True, "qk_layer_norm_cross": True},
    {"memory_efficient": True, "kv_repeat": 2, "qk_layer_norm": True, "layer_scale": 0.3},
    {"attention_as_float32": True, "activation": "relu"},
]


def tiny(**options):
    return StreamingTransformer(**{**TINY, **options}).eval()


def stream(model, x, sizes, source=None):
    cache = model.new_cache(batch_size=len(x), num_steps=x.shape[1])
    chunks = [model(chunk, source, cache) for chunk in x.split(sizes, dim=1)]
    assert cache.length == x.shape[1]
    return torch.cat(chunks, dim=1)


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("sizes", [[1] * 9, [4, 5], [3, 1, 1, 4], [9]], ids=str)
def test_streaming_equals_one_full_pass(options, sizes):
    model, x = tiny(**options), torch.randn(2, 9, 16)
    source = torch.randn(2, 3, 16) if options.get("cross_attention") else None

    torch.testing.assert_close(stream(model, x, sizes, source), model(x, source))


@pytest.mark.parametrize("options", KINDS, ids=lambda options: "-".join(options))
def test_causal_attention_ignores_the_future(options):
    model, x = tiny(**options), torch.randn(1, 6, 16)
    source = torch.randn(1, 3, 16) if options.get("cross_attention") else None
    changed = x.clone()
    changed[:, 4:] = 0

    torch.testing.assert_close(model(x, source)[:, :4], model(changed, source)[:, :4])


def test_past_context_limits_attention():
    model, x = tiny(num_layers=1, past_context=3, memory_efficient=True), torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 0] *= -1

    before, after = model(x), model(changed)

    assert not torch.allclose(before[:, 3], after[:, 3])
    torch.testing.assert_close(before[:, 4:], after[:, 4:])


def test_non_causal_attention_uses_the_future():
    model, x = tiny(causal=False), torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, -1] *= -1

    assert not torch.allclose(model(x)[:, 0], model(changed)[:, 0])


def test_caches_are_independent():
    model, a, b = tiny(), torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    caches = [model.new_cache(1, 5), model.new_cache(1, 5)]

    outputs = [
        [model(x[:, i : i + 1], cache=cache) for x, cache in zip((a, b), caches)] for i in range(5)
    ]

    torch.testing.assert_close(torch.cat([a_step for a_step, _ in outputs], dim=1), model(a))
    torch.testing.assert_close(torch.cat([b_step for _, b_step in outputs], dim=1), model(b))


def test_deprecated_attention_backends_give_equal_outputs():
    one, other, x = tiny(custom=True), tiny(), torch.randn(2, 5, 16)
    other.load_state_dict(
        {
            key.replace("self_attn.", "self_attn.mha."): value
            for key, value in one.state_dict().items()
        }
    )

    torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize("kind", ["torch", "xformers_default"])
def test_activation_checkpointing_does_not_change_outputs_or_gradients(kind):
    plain, saving = tiny(dropout=0.1).train(), tiny(dropout=0.1, checkpointing=kind).train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 16)
    losses = []
    for model in (plain, saving):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            losses.append(model(x).square().mean())
        losses[-1].backward()

    torch.testing.assert_close(losses[0], losses[1])
    for ours, theirs in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_unknown_compile_mode_lists_the_supported_ones():
    with pytest.raises(ValueError, match=r"compile\.mode is 'fast'.*default"):
        tiny().compile_layers("fast")


def test_sinusoidal_positions_have_cosines_first():
    embedding = sin_embedding(torch.arange(3), dim=4, max_period=100.0)

    positions = torch.arange(3.0)
    expected = [positions.cos(), (positions / 100).cos(), positions.sin(), (positions / 100).sin()]
    torch.testing.assert_close(embedding, torch.stack(expected, dim=-1))


def test_full_cache_raises():
    model = tiny()
    cache = model.new_cache(batch_size=1, num_steps=3)

    with pytest.raises(ValueError, match="num_steps"):
        model(torch.randn(1, 4, 16), cache=cache)


def test_streaming_a_non_causal_transformer_raises():
    model = tiny(causal=False)

    with pytest.raises(ValueError, match="causal"):
        model(torch.randn(1, 4, 16), cache=model.new_cache(1, 4))


def test_source_without_cross_attention_raises():
    with pytest.raises(ValueError, match="no cross attention"):
        tiny()(torch.randn(1, 4, 16), torch.randn(1, 2, 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "swish"}, "activation is 'swish'. Choose one of: gelu, relu"),
        ({"norm": "batch_norm"}, "norm is 'batch_norm'"),
        ({"positional_embedding": "alibi"}, "Choose one of: sin, rope, sin_rope"),
        ({"num_heads": 3}, "num_heads=3"),
        ({"kv_repeat": 3}, "kv_repeat=3"),
    ],
)
def test_invalid_choice_lists_the_supported_ones(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
