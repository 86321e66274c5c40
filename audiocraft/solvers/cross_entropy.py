"""What the language model learns from: how surprised it is by the codes.

The cross entropy is averaged per codebook over its valid positions, then over the codebooks, so
that a codebook with fewer valid positions counts as much as the others. Where several processes
share a batch, the average is over the whole batch: the number of processes changes nothing.
"""

import math

import torch
from flashy.distrib import all_reduce
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
    nats = kept.new_zeros(mask.numel()).masked_scatter(flat_mask, kept).view(mask.shape)
    if counts is None:
        counts = mask.sum(dim=(0, 2))
    means = nats.sum(dim=(0, 2)) / counts.clamp(min=1)
    per_codebook = means.masked_fill(counts == 0, float("nan"))
    if skip_empty:
        return means.sum() / (counts > 0).sum().clamp(min=1), per_codebook
    return per_codebook.mean(), per_codebook


def loss_metrics(loss: Tensor, per_codebook: Tensor) -> dict[str, float]:
    """Cross entropies in nats and their perplexities, over all codebooks and for each."""
    metrics = {"ce": loss.item(), "ppl": math.exp(min(loss.item(), 100))}
    for k, ce in enumerate(per_codebook.tolist(), start=1):
        if not math.isnan(ce):
            metrics |= {f"ce_q{k}": ce, f"ppl_q{k}": math.exp(min(ce, 100))}
    return metrics


class TokenCounts:
    """How often each token of each codebook was seen.

    Args:
        num_codebooks: K.
        card: V, entries per codebook.
    """

    def __init__(self, num_codebooks: int, card: int):
        self.counts = torch.zeros(num_codebooks, card, dtype=torch.float64)  # [K, V]

    def add(self, codes: Tensor, mask: Tensor) -> None:
        """Count the tokens `codes` `[B, K, F]` where `mask` `[B, K, F]` is true.

        Those of the other processes are counted, too: every process has to call it.
        """
        card = self.counts.shape[1]
        seen = [torch.bincount(codes[:, k][mask[:, k]], minlength=card) for k in range(len(self))]
        counts = torch.stack(seen)
        all_reduce(counts)
        self.counts += counts.to(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def entropy(self) -> float:
        """Entropy of the counted distribution in nats, averaged over codebooks."""
        p = self.counts / self.counts.sum(dim=1, keepdim=True).clamp(min=1)
        return float(torch.special.entr(p).sum(dim=1).mean())

    def cross_entropy(self, other: "TokenCounts") -> float:
        """Nats per token that this distribution needs for the tokens counted by `other`.

        Add-one smoothing gives every token a chance. The mean is over codebooks, as in the loss.
        """
        smooth = self.counts + 1
        nll = -(smooth / smooth.sum(dim=1, keepdim=True)).log()
        weights = other.counts / other.counts.sum(dim=1, keepdim=True).clamp(min=1)
        return float((weights * nll).sum(dim=1).mean())

    @property
    def uniform(self) -> float:
        """Cross entropy of a uniform guess, in nats."""
        return math.log(self.counts.shape[1])

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.counts.copy_(state["counts"])
