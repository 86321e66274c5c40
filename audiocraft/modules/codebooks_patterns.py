"""In which order the codebooks of every frame are predicted.

A codec gives K codes per frame, a language model predicts one step after the other. A pattern
lays the grid of codes, `[K, F]`, out on a sequence of steps, `[K, S]`: it says for every code at
which step it stands. Places of the sequence without a code hold a special token.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import typing as tp
from abc import ABC, abstractmethod
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


class CodebooksPatternProvider(ABC):
    """Gives the pattern for any number of frames.

    Args:
        n_q: Codebooks, K.

    Raises:
        ValueError: There is no codebook.
    """

    def __init__(self, n_q: int):
        if n_q < 1:
            raise ValueError(f"n_q is {n_q} but a pattern needs at least one codebook.")
        self.n_q = n_q
        self._known: dict[int, Pattern] = {}

    def get_pattern(self, timesteps: int) -> Pattern:
        """The pattern of that many frames.

        Raises:
            ValueError: There is no frame.
        """
        if timesteps < 1:
            raise ValueError(f"A pattern needs at least one frame but was asked for {timesteps}.")
        if timesteps not in self._known:
            self._known[timesteps] = Pattern(self._steps(timesteps), timesteps)
        return self._known[timesteps]

    @abstractmethod
    def _steps(self, timesteps: int) -> Tensor:
        """Step of each code, see `Pattern`."""

    def _per_codebook(self, name: str, values: tp.Sequence[int], count: int) -> Tensor:
        if len(values) != count or min(values, default=0) < 0:
            raise ValueError(
                f"{name} is {list(values)}. Give {count} numbers of at least 0, "
                f"for {self.n_q} codebooks."
            )
        return torch.tensor(list(values), dtype=torch.long)[:, None]


class DelayedPatternProvider(CodebooksPatternProvider):
    """Codebook k comes `delays[k]` steps after the first one, so that steps overlap frames.

    Args:
        n_q: Codebooks, K.
        delays: Steps by which each codebook is late; 0, 1, 2, … by default.
        flatten_first: The first frames that are laid out one code per step.
        empty_initial: Steps without code at the start, beside the one that always opens the
            sequence; -1 removes that one.
    """

    def __init__(
        self,
        n_q: int,
        delays: tp.Sequence[int] | None = None,
        flatten_first: int = 0,
        empty_initial: int = 0,
    ):
        super().__init__(n_q)
        self.delays = self._per_codebook("delays", range(n_q) if delays is None else delays, n_q)
        self.flatten_first = flatten_first
        self.empty_initial = empty_initial

    def _steps(self, timesteps: int) -> Tensor:
        columns = torch.arange(timesteps + int(self.delays.max()))
        start = 1 + self.empty_initial
        num_flat = min(timesteps, self.flatten_first)
        flat = start + columns * self.n_q + torch.arange(self.n_q)[:, None]
        late = columns + self.delays
        steps = start + num_flat * self.n_q + late - self.flatten_first
        left_out = (columns < self.flatten_first) | (late >= len(columns))
        return flat.where(columns < num_flat, steps.masked_fill(left_out, -1))


class ParallelPatternProvider(DelayedPatternProvider):
    """All the codes of a frame at one step.

    Args:
        n_q: Codebooks, K.
        empty_initial: As for `DelayedPatternProvider`.
    """

    def __init__(self, n_q: int, empty_initial: int = 0):
        super().__init__(n_q, [0] * n_q, empty_initial=empty_initial)


class UnrolledPatternProvider(CodebooksPatternProvider):
    """Each frame takes several steps, one per group of codebooks.

    Args:
        n_q: Codebooks, K.
        flattening: Group of each codebook; 0, 1, 2, … by default.
        delays: Frames by which each codebook is late, equal within a group; 0 by default.

    Raises:
        ValueError: Codebooks of one group are late by different numbers of frames.
    """

    def __init__(
        self,
        n_q: int,
        flattening: tp.Sequence[int] | None = None,
        delays: tp.Sequence[int] | None = None,
    ):
        super().__init__(n_q)
        groups = range(n_q) if flattening is None else flattening
        self.groups = self._per_codebook("flattening", groups, n_q)
        self.delays = self._per_codebook("delays", [0] * n_q if delays is None else delays, n_q)
        pairs = set(zip(self.groups.flatten().tolist(), self.delays.flatten().tolist()))
        if len(pairs) > len(self.groups.unique()):
            raise ValueError(
                f"The codebooks of one group must be late by the same, but flattening is "
                f"{list(groups)} and delays are {self.delays.flatten().tolist()}."
            )

    def _steps(self, timesteps: int) -> Tensor:
        columns = torch.arange(timesteps + int(self.delays.max()))
        late = columns + self.delays
        # Codes with the same rank share a step; older frames go first.
        rank = (late * len(columns) + columns) * (int(self.groups.max()) + 1) + self.groups
        kept = late < len(columns)
        steps = torch.full(rank.shape, -1)
        steps[kept] = 1 + rank[kept].unique(return_inverse=True)[1]
        return steps


class CoarseFirstPattern(CodebooksPatternProvider):
    """The first codebook of all frames, then the others side by side.

    Args:
        n_q: Codebooks, K.
        delays: Steps by which each of the K - 1 others is late; 0 by default.
    """

    def __init__(self, n_q: int, delays: tp.Sequence[int] | None = None):
        super().__init__(n_q)
        late = [0] * (n_q - 1) if delays is None else delays
        self.delays = self._per_codebook("delays", late, n_q - 1)

    def _steps(self, timesteps: int) -> Tensor:
        max_delay = int(self.delays.max()) if self.n_q > 1 else 0
        columns = torch.arange(timesteps + max_delay)[None]
        first = (1 + columns).masked_fill(columns >= timesteps, -1)
        late = columns + self.delays
        others = (1 + timesteps + late).masked_fill(late >= columns.shape[1], -1)
        return torch.cat([first, others])


class MusicLMPattern(CodebooksPatternProvider):
    """One code per step: all the frames of a group of codebooks, then those of the next group.

    Args:
        n_q: Codebooks, K.
        group_by: Codebooks per group.

    Raises:
        ValueError: A group has no codebook.
    """

    def __init__(self, n_q: int, group_by: int = 2):
        super().__init__(n_q)
        if group_by < 1:
            raise ValueError(f"group_by is {group_by} but a group needs at least one codebook.")
        self.group_by = group_by

    def _steps(self, timesteps: int) -> Tensor:
        codebooks = torch.arange(self.n_q)[:, None]
        within = codebooks % self.group_by
        before = codebooks - within  # codebooks of the groups before
        size = (self.n_q - before).clamp(max=self.group_by)
        return 1 + before * timesteps + torch.arange(timesteps) * size + within
