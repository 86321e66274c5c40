import pytest
import torch

from audiocraft.modules.kv_cache import KVCache


def new_cache(num_steps=6):
    return KVCache(num_layers=2, batch_size=1, num_heads=2, num_steps=num_steps, head_dim=4)


def steps(num_steps):
    return torch.randn(1, 2, num_steps, 4)


def test_cached_layer_returns_all_previous_steps():
    cache, first, second = new_cache(), steps(3), steps(2)
    layer = cache.layers[0]

    layer.extend(first, first + 1, start=0)
    keys, values = layer.extend(second, second + 1, start=3)

    torch.testing.assert_close(keys, torch.cat([first, second], dim=2))
    torch.testing.assert_close(values, torch.cat([first, second], dim=2) + 1)


def test_cache_is_allocated_once():
    cache = new_cache()
    layer = cache.layers[0]
    address = layer.keys.data_ptr()

    keys, _ = layer.extend(steps(2), steps(2), start=0)

    assert keys.data_ptr() == address


def test_full_cache_raises_with_its_size():
    cache = new_cache(num_steps=6)
    cache.advance(5)

    cache.check_room(1)
    with pytest.raises(ValueError, match=r"5 of 6 steps: 2 more"):
        cache.check_room(2)


def test_source_of_cross_attention_is_computed_once():
    layer = new_cache().layers[0]
    calls = []

    def compute():
        calls.append(1)
        return steps(3), steps(3)

    first = layer.source_once(compute)
    second = layer.source_once(compute)

    assert len(calls) == 1
    assert first[0] is second[0]


def test_reset_empties_the_cache():
    cache = new_cache()
    cache.advance(6)
    cache.layers[0].source_once(lambda: (steps(3), steps(3)))

    cache.reset()

    cache.check_room(6)
    assert cache.layers[0].source is None


def test_no_gradient_flows_through_a_cache():
    layer = new_cache().layers[0]

    keys, values = layer.extend(steps(2).requires_grad_(), steps(2).requires_grad_(), start=0)

    assert not keys.requires_grad
    assert not values.requires_grad
