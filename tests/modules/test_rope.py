import pytest
import torch

from audiocraft.modules.rope import RotaryEmbedding


def products(rope, queries, keys, offset=0):
    """Product of every query with every key, `[S, S]`."""
    queries, keys = rope(queries, keys, offset)
    return (queries @ keys.transpose(-1, -2))[0, 0]


def same_vector(num_steps, head_dim=8):
    return torch.randn(1, 1, 1, head_dim).expand(-1, -1, num_steps, -1)


@pytest.mark.parametrize("xpos", [False, True])
def test_products_depend_on_the_distance_only(xpos):
    rope = RotaryEmbedding(8, xpos=xpos)
    queries, keys = same_vector(6), same_vector(6)

    here, there = products(rope, queries, keys), products(rope, queries, keys, offset=100)

    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(here[1:, 1:], here[:-1, :-1], atol=1e-4, rtol=1e-4)


def test_rotation_preserves_norms():
    rope = RotaryEmbedding(8)
    x = torch.randn(2, 3, 5, 8)

    turned, _ = rope(x, x)

    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_xpos_decays_with_the_distance():
    vector = torch.ones(1, 1, 1, 8).expand(-1, -1, 2000, -1)
    slow = RotaryEmbedding(8, max_period=1e12, xpos=True)
    plain = RotaryEmbedding(8, max_period=1e12)

    ratio = products(slow, vector, vector)[-1] / products(plain, vector, vector)[-1]

    assert ratio[0] < 0.5 * ratio[-1]


def test_zero_scale_has_no_effect():
    rope = RotaryEmbedding(8, scale=0.0, xpos=True)
    x = torch.randn(1, 2, 5, 8)

    queries, keys = rope(x, x, offset=3)

    torch.testing.assert_close(queries, x)
    torch.testing.assert_close(keys, x)


def test_half_precision_is_preserved():
    x = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)

    queries, _ = RotaryEmbedding(8)(x, x)

    assert queries.dtype == torch.bfloat16


def test_odd_width_raises():
    with pytest.raises(ValueError, match="width per head is"):
        RotaryEmbedding(7)
