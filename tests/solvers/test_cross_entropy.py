import math

import pytest
import torch

from audiocraft.solvers.cross_entropy import codebook_cross_entropy


@pytest.fixture
def batch():
    logits = torch.randn(2, 3, 5, 7)
    codes = torch.randint(7, (2, 3, 5))
    mask = torch.rand(2, 3, 5) > 0.3
    return logits, codes, mask


def test_each_codebook_counts_alike_whatever_its_valid_positions(batch):
    logits, codes, mask = batch
    nats = -logits.log_softmax(dim=-1).gather(-1, codes[..., None])[..., 0]

    loss, per_codebook = codebook_cross_entropy(logits, codes, mask)

    expected = torch.stack([nats[:, k][mask[:, k]].mean() for k in range(3)])
    torch.testing.assert_close(per_codebook, expected)
    torch.testing.assert_close(loss, expected.mean())


def test_knowing_nothing_costs_the_logarithm_of_the_codebook(batch):
    _, codes, mask = batch

    loss, _ = codebook_cross_entropy(torch.zeros(2, 3, 5, 7), codes, mask)

    assert loss.item() == pytest.approx(math.log(7))


def test_what_is_masked_does_not_matter(batch):
    logits, codes, mask = batch
    expected, _ = codebook_cross_entropy(logits, codes, mask)

    logits = logits.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    loss, _ = codebook_cross_entropy(logits, codes.masked_fill(~mask, 99), mask)
    loss.backward()

    torch.testing.assert_close(loss, expected)
    assert logits.grad is not None
    assert not logits.grad.isnan().any()
    assert (logits.grad[~mask] == 0).all()


def test_an_empty_codebook_is_nan_or_left_out_of_the_mean(batch):
    logits, codes, mask = batch
    mask[:, 1] = False

    loss, per_codebook = codebook_cross_entropy(logits, codes, mask)
    kept, _ = codebook_cross_entropy(logits, codes, mask, skip_empty=True)

    assert loss.isnan()
    assert per_codebook.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(kept, per_codebook[[0, 2]].mean())


def test_a_batch_without_valid_positions_teaches_nothing(batch):
    logits, codes, mask = batch
    logits.requires_grad_()

    loss, _ = codebook_cross_entropy(logits, codes, torch.zeros_like(mask), skip_empty=True)
    loss.backward()

    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
