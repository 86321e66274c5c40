"""Cross entropy over codebooks, its metrics, and the token-frequency (unigram) baseline.

The loss is averaged per codebook over its valid positions, then over codebooks, so that a codebook
with fewer valid positions has the same weight. If processes share a batch, the averages are those
of the whole batch, whatever the number of processes.
"""

import math
import typing as tp

import torch
from flashy.distrib import all_reduce
from torch import Tensor
from torch.nn import functional as F

MAX_EXPONENT = 100.0  # of the perplexity, which would overflow


def codebook_cross_entropy(
    logits: Tensor,
    codes: Tensor,
    mask: Tensor,
    *,
    skip_empty: bool = False,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the cross entropy of predicted codes, in nats.

    Args:
        logits: Predictions, `[B, K, F, V]`; ignored where `mask` is False, even if NaN.
        codes: Targets, `[B, K, F]`; ignored where `mask` is False, even if out of range.
        mask: Loss mask, `[B, K, F]` bool.
        skip_empty: Exclude codebooks without valid position from the mean, which is 0 if there is
            no other, instead of making it NaN.
        counts: Valid positions of each codebook in the whole batch, `[K]`, if this is only a part
            of the batch: the results are then its shares, whose sum is the loss of the batch.

    Returns:
        The mean, a scalar, and the mean of each codebook, `[K]`, NaN without valid position.
    """
    # Masked by value: selecting the valid positions would make the host wait for the device.
    valid_logits = logits.masked_fill(~mask[..., None], 0).float()
    nll = F.cross_entropy(
        valid_logits.flatten(0, 2), codes.masked_fill(~mask, 0).flatten(), reduction="none"
    )
    nll = nll.view(mask.shape).masked_fill(~mask, 0)  # [B, K, F]
    if counts is None:
        counts = mask.sum(dim=(0, 2))
    means = nll.sum(dim=(0, 2)) / counts.clamp(min=1)
    per_codebook = means.masked_fill(counts == 0, float("nan"))
    if skip_empty:
        return means.sum() / (counts > 0).sum().clamp(min=1), per_codebook
    return per_codebook.mean(), per_codebook


def loss_metrics(loss: Tensor, per_codebook: Tensor) -> dict[str, Tensor]:
    """Name the cross entropies: `ce` is the mean, `ce_q1` that of the first codebook."""
    return {"ce": loss} | {f"ce_q{k}": ce for k, ce in enumerate(per_codebook, start=1)}


def add_perplexities(metrics: tp.Mapping[str, float]) -> dict[str, float]:
    """Add `ppl` after each `ce`, and drop codebooks without valid position (NaN)."""
    completed: dict[str, float] = {}
    for name, value in metrics.items():
        if name.startswith("ce_q") and math.isnan(value):
            continue
        completed[name] = value
        if name == "ce" or name.startswith("ce_q"):
            completed[name.replace("ce", "ppl")] = math.exp(min(value, MAX_EXPONENT))
    return completed


class TokenCounts:
    """Frequencies of the tokens of each codebook.

    Args:
        num_codebooks: K.
        card: V, entries per codebook.
        device: Device of the codes, so that counting does not make the host wait.
    """

    def __init__(self, num_codebooks: int, card: int, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(num_codebooks, card, dtype=torch.long, device=device)  # [K, V]

    def add(self, codes: Tensor, mask: Tensor) -> None:
        """Count the tokens of all processes; each has to call it.

        Args:
            codes: Tokens of this process, `[B, K, F]`.
            mask: Positions that are counted, `[B, K, F]` bool.
        """
        counts = torch.zeros_like(self.counts, dtype=torch.int)
        tokens = codes.masked_fill(~mask, 0).transpose(0, 1).flatten(1)  # [K, B * F]
        counts.scatter_add_(1, tokens, mask.transpose(0, 1).flatten(1).to(counts))
        all_reduce(counts)
        self.counts += counts

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def uniform(self) -> float:
        """Cross entropy of the uniform distribution, in nats."""
        return math.log(self.counts.shape[1])

    def entropy(self) -> float:
        """Entropy of the token frequencies, in nats, averaged over codebooks."""
        counts = self.counts.cpu().double()
        p = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        return float(torch.special.entr(p).sum(dim=1).mean())

    def cross_entropy(self, other: "TokenCounts") -> float:
        """Cross entropy of these token frequencies on the tokens of `other`, in nats per token.

        The frequencies are smoothed by adding one to each count; the mean is over codebooks.
        """
        smooth = self.counts.cpu().double() + 1
        nll = -(smooth / smooth.sum(dim=1, keepdim=True)).log()
        counts = other.counts.cpu().double()
        weights = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        return float((weights * nll).sum(dim=1).mean())

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts.cpu().double()}  # a copy

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.counts.copy_(state["counts"].long())
