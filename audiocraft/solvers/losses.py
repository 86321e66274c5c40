"""What the language model learns from: how surprised it is by the codes.

The cross entropy is averaged per codebook over its valid positions, then over the codebooks, so
that a codebook with fewer valid positions counts as much as the others. Where several processes
share a batch, the average is over the whole batch: the number of processes changes nothing.
"""

import math

from torch import Tensor
from torch.nn import functional as F


def codebook_cross_entropy(
    logits: Tensor,
    codes: Tensor,
    mask: Tensor,
    *,
    skip_empty: bool = False,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of predictions, in nats.

    Args:
        logits: Predictions, `[B, K, F, V]`; anything where `mask` is False.
        codes: What was to be predicted, `[B, K, F]`; anything where `mask` is False.
        mask: True on positions that count, `[B, K, F]` bool.
        skip_empty: Leave a codebook without any valid position out of the mean, instead of
            making it NaN; without any at all the loss is 0.
        counts: Valid positions of each codebook in the whole batch, `[K]`, where this is a part
            of it: the results are then this part's shares, which add up to those of the batch.

    Returns:
        The mean, a scalar, and that of each codebook, `[K]`, NaN for one without valid position.
    """
    flat_mask = mask.flatten()
    # Taken out, not zeroed: where nothing counts the logits may be NaN.
    kept = F.cross_entropy(
        logits.flatten(0, 2)[flat_mask].float(), codes.flatten()[flat_mask], reduction="none"
    )
    surprise = kept.new_zeros(mask.numel()).masked_scatter(flat_mask, kept).view(mask.shape)
    if counts is None:
        counts = mask.sum(dim=(0, 2))
    means = surprise.sum(dim=(0, 2)) / counts.clamp(min=1)
    per_codebook = means.masked_fill(counts == 0, float("nan"))
    if skip_empty:
        return means.sum() / (counts > 0).sum().clamp(min=1), per_codebook
    return per_codebook.mean(), per_codebook


def describe_loss(loss: Tensor, per_codebook: Tensor) -> dict[str, float]:
    """Cross entropies in nats and their perplexities, over all codebooks and for each."""
    metrics = {"ce": loss.item(), "ppl": math.exp(min(loss.item(), 100))}
    for k, ce in enumerate(per_codebook.tolist(), start=1):
        if not math.isnan(ce):
            metrics |= {f"ce_q{k}": ce, f"ppl_q{k}": math.exp(min(ce, 100))}
    return metrics
