"""Viterbi quantization: the codes minimize distance plus change cost."""

import itertools

import pytest
import torch

from audiocraft.quantization import viterbi as steady
from audiocraft.quantization.viterbi import change_penalised_codes


def objective(rows, entries, codes, change_cost):
    distance = (rows - entries[codes]).square().sum()
    return float(distance) + change_cost * int((codes[1:] != codes[:-1]).sum())


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("change_cost", [0.0, 0.3, 2.0, 1e6])
def test_codes_minimize_the_objective(rng, change_cost):
    rows, entries = torch.randn(5, 2, generator=rng), torch.randn(3, 2, generator=rng)
    found = change_penalised_codes(rows[None], entries, change_cost)[0]
    best = min(
        objective(rows, entries, torch.tensor(codes), change_cost)
        for codes in itertools.product(range(3), repeat=5)
    )
    assert objective(rows, entries, found, change_cost) == pytest.approx(best, rel=1e-5)


def test_zero_change_cost_selects_the_nearest_entries(rng):
    rows, entries = torch.randn(2, 40, 4, generator=rng), torch.randn(16, 4, generator=rng)
    nearest = torch.cdist(rows, entries.expand(2, -1, -1)).argmin(dim=-1)
    assert torch.equal(change_penalised_codes(rows, entries, 0.0), nearest)


def test_higher_change_cost_gives_fewer_changes(rng):
    rows, entries = torch.randn(1, 200, 4, generator=rng), torch.randn(16, 4, generator=rng)
    changes = [
        int((codes[:, 1:] != codes[:, :-1]).sum())
        for codes in (change_penalised_codes(rows, entries, cost) for cost in (0.0, 1.0, 4.0, 1e9))
    ]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] == 0


def test_sequences_are_independent(rng):
    rows, entries = torch.randn(3, 20, 4, generator=rng), torch.randn(8, 4, generator=rng)
    together = change_penalised_codes(rows, entries, 1.0)
    for i in range(3):
        assert torch.equal(change_penalised_codes(rows[i : i + 1], entries, 1.0)[0], together[i])


@pytest.mark.parametrize("num_frames", [0, 1])
def test_short_sequences_are_supported(num_frames):
    assert change_penalised_codes(torch.zeros(2, num_frames, 4), torch.ones(3, 4), 1.0).shape == (
        2,
        num_frames,
    )


@pytest.mark.parametrize("block", [1, 7, 64])
def test_block_size_does_not_change_codes(rng, block, monkeypatch):
    rows, entries = torch.randn(3, 65, 4, generator=rng), torch.randn(20, 4, generator=rng)
    for change_cost in (0.0, 1.0):
        at_once = change_penalised_codes(rows, entries, change_cost)
        with monkeypatch.context() as patch:
            patch.setattr(steady, "BLOCK", block)
            assert torch.equal(change_penalised_codes(rows, entries, change_cost), at_once)
