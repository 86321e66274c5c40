"""Sampling of tokens from logits: temperature, top-k, top-p.

`draw_uniform` draws one number per token from the item's own generator, `pick` is a deterministic
function of these numbers. An item thus gets the same tokens alone and in any batch.

Method: nucleus sampling, Holtzman et al., 2019, https://arxiv.org/abs/1904.09751.
"""

import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor

from ..utils.numbers import is_integer, is_number


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Parameters of sampling."""

    temperature: float = 1.0  # 0 is greedy
    top_k: int = 250  # 0 is off
    top_p: float = 0.0  # 0 is off; otherwise `top_k` is ignored

    def __post_init__(self):
        if not is_number(self.temperature) or self.temperature < 0:
            raise ValueError(f"temperature must be at least 0 but is {self.temperature!r}.")
        if not is_integer(self.top_k) or self.top_k < 0:
            raise ValueError(
                f"top_k must be at least 0 (0 is off), a whole number, but is {self.top_k!r}."
            )
        if not is_number(self.top_p) or not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p must lie between 0 (off) and 1 but is {self.top_p!r}.")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def filtered_probs(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities from which tokens are drawn, in the order of the vocabulary.

    Args:
        logits: `[..., V]`.
        sampling: Parameters; not greedy.
    """
    logits = logits.float() / sampling.temperature
    if sampling.top_p > 0:
        probs, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        before = probs.cumsum(dim=-1) - probs
        kept = probs.masked_fill(before > sampling.top_p, 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, kept)
        return probs / probs.sum(dim=-1, keepdim=True)
    if 0 < sampling.top_k < logits.shape[-1]:
        last = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < last, float("-inf"))  # ties with the last one stay
    return logits.softmax(dim=-1)


def draw_uniform(
    batch_size: int, shape: tp.Sequence[int], generators: tp.Sequence[torch.Generator] | None
) -> Tensor:
    """Draw numbers in (0, 1], `[B, *shape]`, on the CPU.

    Args:
        batch_size: Number of items, B.
        shape: Shape per item.
        generators: One per item; `None` takes PyTorch's global generator.

    Raises:
        ValueError: The number of generators is not `batch_size`.
    """
    if generators is None:
        return 1 - torch.rand(batch_size, *shape)
    if len(generators) != batch_size:
        raise ValueError(
            f"There are {len(generators)} generators for {batch_size} items. Give one per item."
        )
    draws = [torch.rand(tuple(shape), generator=rng, device=rng.device) for rng in generators]
    return 1 - torch.stack([draw.cpu() for draw in draws])


def pick(logits: Tensor, sampling: Sampling, uniform: Tensor | None) -> Tensor:
    """Pick tokens, `[...]`, by inverting the cumulative distribution at `uniform`, `[...]`.

    Args:
        logits: `[..., V]`.
        sampling: Parameters.
        uniform: Result of `draw_uniform`; unused when greedy.
    """
    if sampling.greedy or uniform is None:
        return logits.argmax(dim=-1)
    cumulative = filtered_probs(logits, sampling).cumsum(dim=-1)
    # The first token at which the target is reached has a positive probability.
    target = uniform.to(cumulative)[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target)[..., 0]


def sample(
    logits: Tensor,
    sampling: Sampling,
    generators: tp.Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Draw tokens, `[B, ...]`, from logits, `[B, ..., V]`; item i uses `generators[i]`."""
    if sampling.greedy:
        return pick(logits, sampling, None)
    B, *shape = logits.shape[:-1]
    return pick(logits, sampling, draw_uniform(B, shape, generators))
