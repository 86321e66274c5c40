import torch

from audiocraft.utils.randomness import derive_generator, derive_seed


def test_generators_with_equal_names_are_equal():
    first, second = derive_generator(7, "train", 1, 2), derive_generator(7, "train", 1, 2)
    torch.testing.assert_close(torch.rand(5, generator=first), torch.rand(5, generator=second))


def test_generator_depends_on_every_name_and_its_position():
    seeds = {derive_seed(*parts) for parts in [(1, 2), (2, 1), (12,), (1, 2, 0), ("1", 3)]}
    assert len(seeds) == 5


def test_global_generators_are_not_used():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=derive_generator("x"))
    torch.testing.assert_close(torch.random.get_rng_state(), before)
