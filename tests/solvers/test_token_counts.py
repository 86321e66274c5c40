import math

import pytest
import torch

from audiocraft.solvers.cross_entropy import TokenCounts


def counted(codes, card=8):
    counts = TokenCounts(codes.shape[1], card)
    counts.add(codes, torch.ones_like(codes, dtype=torch.bool))
    return counts


def test_masked_tokens_are_not_counted():
    codes = torch.zeros(1, 2, 4, dtype=torch.long)
    mask = torch.tensor([[[True, False, True, False], [False] * 4]])
    counts = TokenCounts(2, 3)
    counts.add(codes, mask)
    assert counts.counts.tolist() == [[2, 0, 0], [0, 0, 0]]


def test_of_its_own_tokens_the_cross_entropy_is_nearly_the_entropy():
    codes = torch.randint(8, (64, 2, 200), generator=torch.Generator().manual_seed(0))
    counts = counted(codes)
    assert counts.cross_entropy(counts) == pytest.approx(counts.entropy(), abs=1e-3)
    assert counts.entropy() <= counts.uniform == math.log(8)


def test_other_tokens_cost_more_than_own_ones():
    own, other = torch.zeros(1, 1, 50, dtype=torch.long), torch.full((1, 1, 50), 7)
    counts = counted(own)
    assert counts.cross_entropy(counted(other)) > counts.cross_entropy(counts)


def test_counts_survive_a_checkpoint():
    counts, restored = counted(torch.ones(1, 2, 5, dtype=torch.long)), TokenCounts(2, 8)
    restored.load_state_dict(counts.state_dict())
    torch.testing.assert_close(restored.counts, counts.counts)
