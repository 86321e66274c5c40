"""What the language model learns from: how surprised it is by the codes.

The cross entropy is averaged per codebook over its valid positions, then over the codebooks, so
that a codebook with fewer valid positions counts as much as the others.
"""

from torch import Tensor
from torch.nn import functional as F


def codebook_cross_entropy(
    logits: Tensor, codes: Tensor, mask: Tensor, *, skip_empty: bool = False
) -> tuple[Tensor, Tensor]:
    """Cross entropy of predictions, in nats.

    Args:
        logits: Predictions, `[B, K, F, V]`; anything where `mask` is False.
        codes: What was to be predicted, `[B, K, F]`; anything where `mask` is False.
        mask: True on positions that count, `[B, K, F]` bool.
        skip_empty: Leave a codebook without any valid position out of the mean, instead of
            making it NaN; without any at all the loss is 0.

    Returns:
        The mean, a scalar, and that of each codebook, `[K]`, NaN for one without valid position.
    """
    flat_mask = mask.flatten()
    # Taken out, not zeroed: where nothing counts the logits may be NaN.
    kept = F.cross_entropy(
        logits.flatten(0, 2)[flat_mask].float(), codes.flatten()[flat_mask], reduction="none"
    )
    surprise = kept.new_zeros(mask.numel()).masked_scatter(flat_mask, kept).view(mask.shape)
    count = mask.sum(dim=(0, 2))
    means = surprise.sum(dim=(0, 2)) / count.clamp(min=1)
    per_codebook = means.masked_fill(count == 0, float("nan"))
    if skip_empty:
        return means.sum() / (count > 0).sum().clamp(min=1), per_codebook
    return per_codebook.mean(), per_codebook
