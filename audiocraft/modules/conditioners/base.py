"""Conditioners: base classes and the conditions that they compute.

A conditioner encodes one named attribute of every sample (a text, a clip) as a few vectors of
the language model's width. `prepare` runs on the CPU and makes all random decisions; `forward`
runs on the device and is a deterministic function of what `prepare` returned.
"""

import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BatchGenerators:
    """Random generators of a training batch, of which this process may hold only a part.

    Passing them to `prepare` requests training: random excerpt lengths, quantizer and word
    dropout, and updated statistics. What is drawn for a sample depends on its place in the whole
    batch, not on the process that holds it.
    """

    batch: torch.Generator  # for decisions that are taken once per batch
    items: tp.Sequence[torch.Generator]  # one per sample
    shortest_clip: int | None = None  # samples, in the whole batch; None: of this part of it


# One generator for all samples, or one per sample; None decides as in evaluation.
Rng = torch.Generator | tp.Sequence[torch.Generator] | BatchGenerators | None


class Condition(tp.NamedTuple):
    """Output of a conditioner, ready to be fused with the code embeddings."""

    embed: Tensor  # [B, P, D]
    mask: Tensor  # [B, P] bool, True where `embed` is valid; it is zero elsewhere
    excerpt_mask: Tensor | None = None  # [B, F] bool, True on frames covered by the style excerpt


class BaseConditioner(nn.Module):
    """Base of all conditioners.

    Args:
        dim: Width of the conditioner's own representation.
        output_dim: Width of the language model, `D`.
    """

    def __init__(self, dim: int, output_dim: int):
        super().__init__()
        self.dim = dim
        self.output_dim = output_dim
        self.output_proj = nn.Linear(dim, output_dim)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.output_proj.weight.device

    def prepare(self, values: tp.Any, rng: Rng = None) -> tp.Any:
        """Do what is random or needs the CPU.

        Args:
            values: The attribute of every sample of the batch.
            rng: Random generators; `None` decides as in evaluation, `BatchGenerators` request
                training.

        Returns:
            Input of `forward`.
        """
        raise NotImplementedError

    def forward(self, prepared: tp.Any) -> Condition:
        """Compute the condition of a prepared batch. Nothing here is random."""
        raise NotImplementedError

    def training_generators(self, rng: Rng) -> BatchGenerators | None:
        """`rng` where a training step requests training; training mode by itself does not."""
        return rng if self.training and isinstance(rng, BatchGenerators) else None

    def project(self, hidden: Tensor, mask: Tensor) -> Condition:
        """Project `hidden [B, P, dim]` to the language model's width, zero where `mask` is False.

        Zeroed, not masked out of attention: the language model still attends to these steps,
        since released checkpoints were trained so.
        """
        embed = self.output_proj(hidden.to(self.output_proj.weight.dtype))
        return Condition(embed * mask.unsqueeze(-1), mask)


class TextConditioner(BaseConditioner):
    """Encodes texts: `prepare` takes one text per sample, `None` where it is missing."""


class WavConditioner(BaseConditioner):
    """Encodes clips: `prepare` takes the clips of all samples, collated into a `WavCondition`."""

    def is_long_enough(self, num_samples: int, sample_rate: int) -> bool:
        """Whether a clip of `num_samples` is at least as long as the evaluation excerpt."""
        return True


def null_condition(like: Condition, num_steps: int | None = None) -> Condition:
    """Null condition: zero vectors, `num_steps` long or as long as `like`."""
    B, P, D = like.embed.shape
    P = P if num_steps is None else num_steps
    return Condition(like.embed.new_zeros(B, P, D), like.mask.new_zeros(B, P))


def pad_condition(condition: Condition, num_steps: int) -> Condition:
    """Lengthen a condition to `num_steps` with invalid zero vectors."""
    missing = num_steps - condition.embed.shape[1]
    embed = F.pad(condition.embed, (0, 0, 0, missing))
    return condition._replace(embed=embed, mask=F.pad(condition.mask, (0, missing)))


def merge_excerpt_masks(
    conditions: tp.Mapping[str, Condition],
    num_frames: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Union of the excerpt masks of all conditions.

    Args:
        conditions: Conditions of a batch, by name.
        num_frames: Frames of the target, F. An `excerpt_mask` may be shorter or longer.
        device: Device of the result; only needed where there are no conditions.

    Returns:
        `[B, F]` bool; `[1, F]`, all False, without any condition.
    """
    batch_size = 1
    for condition in conditions.values():
        batch_size, device = condition.embed.shape[0], condition.embed.device
    merged = torch.zeros(batch_size, num_frames, dtype=torch.bool, device=device)
    for condition in conditions.values():
        if condition.excerpt_mask is not None:
            covered = condition.excerpt_mask[:, :num_frames]
            merged[:, : covered.shape[1]] |= covered
    return merged


def length_to_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """`[B, max_len]` bool, True on the first `lengths[b]` steps of each row.

    Args:
        lengths: Number of valid steps, `[B]`.
        max_len: Width of the mask; `None` is the largest length, at least one step.
    """
    width = max(int(lengths.max()), 1) if max_len is None else max_len
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def generator_for(rng: Rng, item: int) -> torch.Generator | None:
    """Generator of one sample of a batch."""
    if rng is None or isinstance(rng, torch.Generator):
        return rng
    return (rng.items if isinstance(rng, BatchGenerators) else rng)[item]
