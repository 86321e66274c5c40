import torch

from audiocraft.modules.conditioners import Condition, merge_excerpt_masks, null_condition
from audiocraft.modules.conditioners.base import generator_for, length_to_mask


def condition(excerpt_mask=None):
    return Condition(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), excerpt_mask)


def test_shown_frames_are_those_of_all_conditions_together():
    first = torch.tensor([[True, False], [False, False]])
    second = torch.tensor([[False, False, True], [False, True, False]])

    excerpt_mask = merge_excerpt_masks(
        {"a": condition(first), "b": condition(second), "c": condition()}, 4
    )

    assert excerpt_mask.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_shown_frames_beyond_the_target_are_cut():
    excerpt_mask = merge_excerpt_masks({"a": condition(torch.ones(2, 9, dtype=torch.bool))}, 4)
    assert excerpt_mask.shape == (2, 4)


def test_without_conditions_nothing_is_shown():
    assert merge_excerpt_masks({}, 5).tolist() == [[False] * 5]


def test_a_null_condition_is_zero_and_masked():
    null = null_condition(condition(), num_steps=1)
    assert null.embed.shape == (2, 1, 4)
    assert not null.embed.any()
    assert not null.mask.any()
    assert null_condition(condition()).embed.shape == (2, 3, 4)


def test_a_mask_counts_back_to_its_lengths():
    lengths = torch.tensor([0, 3, 5])
    assert torch.equal(length_to_mask(lengths).sum(1), lengths)
    assert length_to_mask(torch.tensor([0])).shape == (1, 1)


def test_every_sample_can_have_its_own_generator():
    one, other = torch.Generator(), torch.Generator()
    assert generator_for([one, other], 1) is other
    assert generator_for(one, 1) is one
    assert generator_for(None, 1) is None
