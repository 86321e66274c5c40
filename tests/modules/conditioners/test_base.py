import torch

from audiocraft.modules.conditioners import Condition, merge_excerpt_masks, null_condition
from audiocraft.modules.conditioners.base import generator_for, length_to_mask


def condition(excerpt_mask=None):
    return Condition(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), excerpt_mask)


def test_excerpt_masks_of_all_conditions_are_combined():
    first = torch.tensor([[True, False], [False, False]])
    second = torch.tensor([[False, False, True], [False, True, False]])

    excerpt_mask = merge_excerpt_masks(
        {"a": condition(first), "b": condition(second), "c": condition()}, 4
    )

    assert excerpt_mask.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_excerpt_mask_is_cut_to_the_target_length():
    excerpt_mask = merge_excerpt_masks({"a": condition(torch.ones(2, 9, dtype=torch.bool))}, 4)
    assert excerpt_mask.shape == (2, 4)


def test_no_conditions_give_no_excerpt_mask():
    assert merge_excerpt_masks({}, 5).tolist() == [[False] * 5]


def test_null_condition_is_zero_and_masked():
    null = null_condition(condition(), num_steps=1)
    assert null.embed.shape == (2, 1, 4)
    assert not null.embed.any()
    assert not null.mask.any()
    assert null_condition(condition()).embed.shape == (2, 3, 4)


def test_mask_and_lengths_round_trip():
    lengths = torch.tensor([0, 3, 5])
    assert torch.equal(length_to_mask(lengths).sum(1), lengths)
    assert length_to_mask(torch.tensor([0])).shape == (1, 1)


def test_every_sample_can_have_its_own_generator():
    one, other = torch.Generator(), torch.Generator()
    assert generator_for([one, other], 1) is other
    assert generator_for(one, 1) is one
    assert generator_for(None, 1) is None
