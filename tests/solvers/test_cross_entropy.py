"""Cross entropy of codebooks and the unigram baseline."""

import math

import pytest
import torch

from audiocraft.solvers.cross_entropy import (
    TokenCounts,
    add_perplexities,
    codebook_cross_entropy,
)


@pytest.fixture
def batch():
    logits = torch.randn(2, 3, 5, 7)
    codes = torch.randint(7, (2, 3, 5))
    mask = torch.rand(2, 3, 5) > 0.3
    return logits, codes, mask


def test_each_codebook_has_the_same_weight(batch):
    logits, codes, mask = batch
    nats = -logits.log_softmax(dim=-1).gather(-1, codes[..., None])[..., 0]

    loss, per_codebook = codebook_cross_entropy(logits, codes, mask)

    expected = torch.stack([nats[:, k][mask[:, k]].mean() for k in range(3)])
    torch.testing.assert_close(per_codebook, expected)
    torch.testing.assert_close(loss, expected.mean())


def test_uniform_predictions_cost_the_logarithm_of_the_codebook_size(batch):
    _, codes, mask = batch

    loss, _ = codebook_cross_entropy(torch.zeros(2, 3, 5, 7), codes, mask)

    assert loss.item() == pytest.approx(math.log(7))


def test_masked_positions_have_no_effect(batch):
    logits, codes, mask = batch
    expected, _ = codebook_cross_entropy(logits, codes, mask)

    logits = logits.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    loss, _ = codebook_cross_entropy(logits, codes.masked_fill(~mask, 99), mask)
    loss.backward()

    torch.testing.assert_close(loss, expected)
    assert logits.grad is not None
    assert not logits.grad.isnan().any()
    assert (logits.grad[~mask] == 0).all()


def test_empty_codebook_is_nan_or_skipped(batch):
    logits, codes, mask = batch
    mask[:, 1] = False

    loss, per_codebook = codebook_cross_entropy(logits, codes, mask)
    kept, _ = codebook_cross_entropy(logits, codes, mask, skip_empty=True)

    assert loss.isnan()
    assert per_codebook.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(kept, per_codebook[[0, 2]].mean())


def test_batch_without_valid_positions_has_zero_loss_and_gradient(batch):
    logits, codes, mask = batch
    logits.requires_grad_()

    loss, _ = codebook_cross_entropy(logits, codes, torch.zeros_like(mask), skip_empty=True)
    loss.backward()

    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_perplexities_follow_their_cross_entropies_and_empty_codebooks_are_dropped():
    metrics = add_perplexities({"lr": 0.1, "ce": 1.0, "ce_q1": float("nan"), "ce_q2": 0.0})
    assert list(metrics) == ["lr", "ce", "ppl", "ce_q2", "ppl_q2"]
    assert metrics["ppl"] == pytest.approx(math.e)
    assert metrics["ppl_q2"] == 1


# Token counts.


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


def test_cross_entropy_of_its_own_tokens_is_nearly_the_entropy():
    codes = torch.randint(8, (64, 2, 200), generator=torch.Generator().manual_seed(0))
    counts = counted(codes)
    assert counts.cross_entropy(counts) == pytest.approx(counts.entropy(), abs=1e-3)
    assert counts.entropy() <= counts.uniform == math.log(8)


def test_other_tokens_have_a_higher_cross_entropy():
    own, other = torch.zeros(1, 1, 50, dtype=torch.long), torch.full((1, 1, 50), 7)
    counts = counted(own)
    assert counts.cross_entropy(counted(other)) > counts.cross_entropy(counts)


def test_counts_survive_a_checkpoint():
    counts, restored = counted(torch.ones(1, 2, 5, dtype=torch.long)), TokenCounts(2, 8)
    restored.load_state_dict(counts.state_dict())
    torch.testing.assert_close(restored.counts, counts.counts)
