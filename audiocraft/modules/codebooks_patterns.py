"""In which order the codebooks of every frame are predicted.

A codec gives K codes per frame, a language model predicts one step after the other. A pattern
lays the grid of codes, `[K, F]`, out on a sequence of steps, `[K, S]`: it says for every code at
which step it stands. Places of the sequence without a code hold a special token.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import typing as tp
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .pattern import Pattern


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
