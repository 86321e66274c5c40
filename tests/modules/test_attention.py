import pytest
import torch
from torch import nn

from audiocraft.modules.attention import MultiheadAttention, NestedAttention
from audiocraft.modules.kv_cache import KVCache


@pytest.fixture
def x():
    return torch.randn(2, 7, 16)


def torch_reference(attention, dim=16, num_heads=4):
    """PyTorch's own attention with the same weights."""
    reference = nn.MultiheadAttention(dim, num_heads, batch_first=True).eval()
    reference.load_state_dict(attention.state_dict())
    return reference


def test_self_attention_equals_pytorch(x):
    attention = MultiheadAttention(16, 4).eval()
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)

    expected, _ = torch_reference(attention)(x, x, x, attn_mask=hidden)

    torch.testing.assert_close(attention(x, is_causal=True), expected)
    torch.testing.assert_close(attention(x, mask=~hidden), expected)


def test_cross_attention_equals_pytorch(x):
    attention, source = MultiheadAttention(16, 4).eval(), torch.randn(2, 3, 16)

    expected, _ = torch_reference(attention)(x, source, source)

    torch.testing.assert_close(attention.cross(x, source), expected)


def test_kv_repeat_equals_repeated_weights(x):
    few = MultiheadAttention(16, 4, kv_repeat=2, bias=False).eval()
    many = MultiheadAttention(16, 4, bias=False).eval()
    q, k, v = few.in_proj_weight.split([16, 8, 8])
    repeated = [w.view(2, 1, 4, 16).expand(-1, 2, -1, -1).reshape(16, 16) for w in (k, v)]
    many.load_state_dict(
        {"in_proj_weight": torch.cat([q, *repeated]), "out_proj.weight": few.out_proj.weight}
    )

    torch.testing.assert_close(few(x), many(x))


def test_nested_attention_only_changes_state_keys(x):
    nested = NestedAttention(MultiheadAttention(16, 4)).eval()
    plain = MultiheadAttention(16, 4).eval()
    plain.load_state_dict({k.removeprefix("mha."): v for k, v in nested.state_dict().items()})

    torch.testing.assert_close(nested(x, is_causal=True), plain(x, is_causal=True))


def test_cross_attention_projects_its_source_once(x):
    attention, source = MultiheadAttention(16, 4).eval(), torch.randn(2, 3, 16)
    layer = KVCache(1, batch_size=2, num_heads=4, num_steps=7, head_dim=4).layers[0]

    first = attention.cross(x, source, layer)

    torch.testing.assert_close(attention.cross(x, None, layer), first)
    torch.testing.assert_close(attention.cross(x, source + 1, layer), first)


def test_cross_attention_without_a_source_raises(x):
    with pytest.raises(ValueError, match="cross_attention_src"):
        MultiheadAttention(16, 4).cross(x, None)


def test_attention_as_float32_is_float32_under_autocast(x):
    rough = MultiheadAttention(16, 4).eval()
    fine = MultiheadAttention(16, 4, as_float32=True).eval()
    fine.load_state_dict(rough.state_dict())
    # Large products, which bfloat16 cannot distinguish.
    state = {k: v * 30 if k == "in_proj_weight" else v for k, v in rough.state_dict().items()}
    rough.load_state_dict(state)
    fine.load_state_dict(state)
    seen = []
    fine.out_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        fine(x)

    assert seen == [torch.bfloat16]  # attention in float32, output in the autocast dtype
    torch.testing.assert_close(fine(x), rough(x))


def test_dropout_acts_in_training_only(x):
    attention = MultiheadAttention(16, 4, dropout=0.5)

    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
