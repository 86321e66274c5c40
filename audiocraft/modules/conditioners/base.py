"""What a conditioner is, and what it hands to the language model.

A conditioner turns one named attribute of every sample (a text, a clip) into a few vectors of
the language model's width. It works in two halves: `prepare` runs on the CPU and throws all the
dice, `forward` runs on the device and is a deterministic function of what was prepared.
"""

import typing as tp
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BatchGenerators:
    """The dice of a training batch, of which this process may see only a part.

    What a sample draws for itself depends on its place in the whole batch, not on the process
    that it is in.
    """

    batch: torch.Generator  # for what is decided once for the batch
    items: tp.Sequence[torch.Generator]  # one per sample
    shortest_clip: int | None = None  # samples, in the whole batch; None: see this part of it


# Of everything, or one per sample; None decides as evaluation does.
Rng = torch.Generator | tp.Sequence[torch.Generator] | BatchGenerators | None


class Condition(tp.NamedTuple):
    """What one conditioner hands to the language model."""

    embed: Tensor  # [B, P, D]
    mask: Tensor  # [B, P] bool, True where `embed` is real; it is zero elsewhere
    excerpt_mask: Tensor | None = None  # [B, F] bool, True on target frames already heard


class BaseConditioner(nn.Module):
    """Base of all conditioners.

    Args:
        dim: Width of what the conditioner computes.
        output_dim: Width of the language model, `D`.
    """

    def __init__(self, dim: int, output_dim: int):
        super().__init__()
        self.dim = dim
        self.output_dim = output_dim
        self.output_proj = nn.Linear(dim, output_dim)

    @property
    def device(self) -> torch.device:
        """Where the conditioner computes."""
        return self.output_proj.weight.device

    def prepare(self, values: tp.Any, rng: Rng = None) -> tp.Any:
        """Decide everything that is random or needs the CPU.

        Args:
            values: The attribute of every sample of the batch.
            rng: Where the dice come from; `None` decides as evaluation does.

        Returns:
            Something of the conditioner's own, for `forward`.
        """
        raise NotImplementedError

    def forward(self, prepared: tp.Any) -> Condition:
        """Compute the condition of a batch that was prepared. Nothing here is random."""
        raise NotImplementedError

    def project(self, hidden: Tensor, mask: Tensor) -> Condition:
        """Bring `hidden [B, P, dim]` to the language model's width, zero where `mask` is False.

        Zeroed, not hidden: the language model still attends to these steps, since released
        checkpoints were trained so.
        """
        embed = self.output_proj(hidden.to(self.output_proj.weight.dtype))
        return Condition(embed * mask.unsqueeze(-1), mask)


class TextConditioner(BaseConditioner):
    """Reads: `prepare` takes a text of every sample, `None` where one is missing."""


class WavConditioner(BaseConditioner):
    """Listens: `prepare` takes the clips of all samples, collated into one `WavCondition`."""

    def is_long_enough(self, num_samples: int, sample_rate: int) -> bool:
        """Whether a clip of so many samples is as long as what evaluation listens to."""
        return True


def null_condition(like: Condition, num_steps: int | None = None) -> Condition:
    """The absence of a condition: zero vectors, `num_steps` long or as long as `like`."""
    B, P, D = like.embed.shape
    P = P if num_steps is None else num_steps
    return Condition(like.embed.new_zeros(B, P, D), like.mask.new_zeros(B, P))


def pad_condition(condition: Condition, num_steps: int) -> Condition:
    """Lengthen a condition to `num_steps` with zeros that are not real."""
    missing = num_steps - condition.embed.shape[1]
    embed = F.pad(condition.embed, (0, 0, 0, missing))
    return condition._replace(embed=embed, mask=F.pad(condition.mask, (0, missing)))


def merge_excerpt_masks(
    conditions: tp.Mapping[str, Condition],
    num_frames: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which target frames the model was shown by any of its conditions.

    Args:
        conditions: Conditions of a batch, by name.
        num_frames: Frames in the target, F. A condition's `excerpt_mask` may be shorter or longer.
        device: Where the result is wanted; only needed where there are no conditions.

    Returns:
        `[B, F]` bool; `[1, F]`, all False, without any condition.
    """
    batch_size = 1
    for condition in conditions.values():
        batch_size, device = condition.embed.shape[0], condition.embed.device
    excerpt_mask = torch.zeros(batch_size, num_frames, dtype=torch.bool, device=device)
    for condition in conditions.values():
        if condition.excerpt_mask is not None:
            covered = condition.excerpt_mask[:, :num_frames]
            excerpt_mask[:, : covered.shape[1]] |= covered
    return excerpt_mask


def length_to_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """`[B, max_len]` bool, True on the first `lengths[b]` steps of each row.

    Args:
        lengths: `[B]`, counts of real steps.
        max_len: Width of the mask; `None` is the largest length, at least one step.
    """
    width = max(int(lengths.max()), 1) if max_len is None else max_len
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def generator_for(rng: Rng, item: int) -> torch.Generator | None:
    """The generator that decides for one sample of a batch."""
    if rng is None or isinstance(rng, torch.Generator):
        return rng
    return (rng.items if isinstance(rng, BatchGenerators) else rng)[item]


def generator_for_all(rng: Rng) -> torch.Generator | None:
    """The generator that decides what the samples of a batch have in common."""
    return rng.batch if isinstance(rng, BatchGenerators) else generator_for(rng, 0)
