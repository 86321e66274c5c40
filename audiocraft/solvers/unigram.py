"""What a model must beat: the frequencies of the tokens, without any context.

Cross entropies of a language model mean little alone. Beside them stand the one of a uniform
guess (`ln` of the codebook size) and the one of the unigram distribution counted on the training
tokens, both measured on the same held-out tokens.
"""

import math

import torch
from flashy.distrib import all_reduce
from torch import Tensor


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
