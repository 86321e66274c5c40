"""Where every code of a grid stands in a sequence of steps, and the way there and back."""

import typing as tp
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


class LayoutCoord(tp.NamedTuple):
    """One code of the grid: the frame `t` in the codebook `q`."""

    t: int
    q: int


class Reverted(tp.NamedTuple):
    """A sequence laid back on the grid."""

    values: Tensor  # [B, K, F] or [B, K, F, V]
    indexes: Tensor  # [K, F], where each value stood in the flattened sequence; K · S if nowhere
    mask: Tensor  # [K, F] bool, True where the sequence had a value


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the codes of `timesteps` frames stand in a sequence of steps.

    Args:
        steps: Step of each code, `[K, F']` long, -1 for those left out. Patterns that delay some
            codebooks have columns beyond the real frames; no code will ever stand there.
        timesteps: Real frames, F.
    """

    steps: Tensor
    timesteps: int

    @cached_property
    def real(self) -> Tensor:
        """Step of each real code, `[K, F]`."""
        return self.steps[:, : self.timesteps]

    @cached_property
    def num_steps(self) -> int:
        """Length of the sequence, S."""
        return int(self.steps.max()) + 1

    @cached_property
    def max_delay(self) -> int:
        """Frames by which the pattern reads beyond the real ones."""
        return int((self.steps >= 0).any(dim=0).nonzero().max()) + 1 - self.timesteps

    @property
    def num_valid_steps(self) -> int:
        """Length of the sequence before codebooks start to run out of real frames."""
        return self.num_steps - self.max_delay

    @cached_property
    def starts_with_empty_step(self) -> bool:
        """Whether a step without any code opens the sequence, so that step 1 can be predicted."""
        return int(self.steps[self.steps >= 0].min()) > 0

    @property
    def layout(self) -> list[list[LayoutCoord]]:
        """Codes of each step, those beyond the real frames included."""
        layout: list[list[LayoutCoord]] = [[] for _ in range(self.num_steps)]
        for q, row in enumerate(self.steps.tolist()):
            for t, step in enumerate(row):
                if step >= 0:
                    layout[step].append(LayoutCoord(t, q))
        return layout

    def get_first_step_with_timesteps(self, t: int) -> int | None:
        """First step that holds a code of frame `t`; `None` if no step does."""
        found = self.steps[:, t : t + 1]
        found = found[found >= 0]
        return int(found.min()) if found.numel() else None

    def build_pattern_sequence(
        self, z: Tensor, special_token: int, keep_only_valid_steps: bool = False
    ) -> Reverted:
        """Lay codes out as a sequence.

        Args:
            z: Codes, `[B, K, F]`.
            special_token: Stands where no code does.
            keep_only_valid_steps: Stop where codebooks start to run out of real frames.

        Returns:
            The sequence, `[B, K, S]`; where each of its values stood in the flattened grid,
            `[K, S]`; and where it holds a code, `[K, S]`.

        Raises:
            ValueError: Other codebooks or frames than the pattern is made for.
        """
        K, F = self.real.shape
        if z.shape[1:] != (K, F):
            raise ValueError(
                f"This pattern is for {K} codebooks and {F} frames but the codes are "
                f"{list(z.shape)}. Ask the provider for `get_pattern(codes.shape[-1])`."
            )
        num_steps = self.num_valid_steps if keep_only_valid_steps else self.num_steps
        indexes = torch.full((K, self.num_steps), K * F)
        indexes.scatter_(1, self.real, torch.arange(K * F).view(K, F))
        indexes = indexes[:, :num_steps].to(z.device)
        mask = indexes < K * F
        values = z.flatten(1)[:, indexes.clamp(max=K * F - 1)]
        return Reverted(values.masked_fill(~mask, special_token), indexes, mask)

    def revert_pattern_sequence(self, s: Tensor, special_token: int) -> Reverted:
        """Lay a sequence, `[B, K, S]`, back on the grid; missing codes become `special_token`."""
        indexes, mask = self._revert_indexes(s.shape[2], self.real, s.device)
        values = s.flatten(1)[:, indexes.clamp(max=s[0].numel() - 1)]
        return Reverted(values.masked_fill(~mask, special_token), indexes, mask)

    def revert_pattern_logits(self, logits: Tensor, special_token: float) -> Reverted:
        """Lay predictions, `[B, K, S, V]`, on the grid: those of a step are about the next one.

        (Of a pattern without an empty first step nothing is shifted.)
        """
        shift = int(self.starts_with_empty_step)
        indexes, mask = self._revert_indexes(logits.shape[2], self.real - shift, logits.device)
        values = logits.flatten(1, 2)[:, indexes.clamp(max=logits[0, ..., 0].numel() - 1)]
        return Reverted(values.masked_fill(~mask[..., None], special_token), indexes, mask)

    def _revert_indexes(
        self, num_steps: int, steps: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        K = len(steps)
        if num_steps > self.num_steps:
            raise ValueError(
                f"A sequence of {num_steps} steps is longer than its pattern, which has "
                f"{self.num_steps}. Ask the provider for a pattern of more frames."
            )
        mask = self.real < num_steps  # the code itself lies in the sequence
        indexes = steps + torch.arange(K)[:, None] * num_steps
        return indexes.where(mask, K * num_steps).to(device), mask.to(device)
