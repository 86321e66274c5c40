"""Codebook interleaving patterns: the order in which the codes of a frame are predicted.

A codec gives K codes per frame, a language model predicts one step after the other. A pattern
maps the grid of codes, `[K, F]`, to a sequence of steps, `[K, S]`, and back. Positions of the
sequence without a code hold a special token.

Method: Copet et al., 2023, https://arxiv.org/abs/2306.05284.
"""

import typing as tp
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..utils.device import to_device


class LayoutCoord(tp.NamedTuple):
    """Position of a code in the grid: frame `t`, codebook `q`."""

    t: int
    q: int


class PatternOutput(tp.NamedTuple):
    """Result of a mapping between grid and sequence, for a sequence mapped to the grid."""

    values: Tensor  # [B, K, F] or [B, K, F, V]
    indexes: Tensor  # [K, F], index of each value in the flattened sequence; K · S where missing
    mask: Tensor  # [K, F] bool, True where the sequence has a value


@dataclass(frozen=True, eq=False)
class Pattern:
    """Mapping of the codes of `timesteps` frames to a sequence of steps.

    Args:
        steps: Step of each code, `[K, F']` long, -1 where it is left out. Patterns that delay some
            codebooks have columns beyond the F frames, whose positions never hold a code.
        timesteps: Number of frames, F.
    """

    steps: Tensor
    timesteps: int

    @property
    def n_q(self) -> int:
        """Number of codebooks, K."""
        return len(self.steps)

    @cached_property
    def code_steps(self) -> Tensor:
        """Step of each code of the F frames, `[K, F]`."""
        return self.steps[:, : self.timesteps]

    @cached_property
    def num_steps(self) -> int:
        """Length of the sequence, S."""
        return int(self.steps.max()) + 1 if self.timesteps else 1

    @property
    def num_sequence_steps(self) -> int:
        """Length of the sequence without its initial step."""
        return self.num_steps - 1

    @cached_property
    def max_delay(self) -> int:
        """Number of columns beyond the F frames."""
        if not self.timesteps:
            return 0
        return int((self.steps >= 0).any(dim=0).nonzero().max()) + 1 - self.timesteps

    @property
    def num_valid_steps(self) -> int:
        """Length of the sequence up to where codebooks run out of frames."""
        return self.num_steps - self.max_delay

    @cached_property
    def starts_with_empty_step(self) -> bool:
        """Whether the initial step has no code, so that step 1 can be predicted."""
        return not self.timesteps or int(self.steps[self.steps >= 0].min()) > 0

    @property
    def layout(self) -> list[list[LayoutCoord]]:
        """Positions of each step, those beyond the F frames included."""
        layout: list[list[LayoutCoord]] = [[] for _ in range(self.num_steps)]
        for q, row in enumerate(self.steps.tolist()):
            for t, step in enumerate(row):
                if step >= 0:
                    layout[step].append(LayoutCoord(t, q))
        return layout

    @property
    def valid_layout(self) -> list[list[LayoutCoord]]:
        """Positions of each valid step: all but the last `max_delay` steps."""
        return self.layout[: self.num_valid_steps]

    def get_first_step_with_timesteps(self, t: int) -> int | None:
        """First step that holds a code of frame `t`; `None` if no step does."""
        steps = self.steps[:, t : t + 1]
        steps = steps[steps >= 0]
        return int(steps.min()) if steps.numel() else None

    def build_pattern_sequence(
        self, z: Tensor, special_token: int, keep_only_valid_steps: bool = False
    ) -> PatternOutput:
        """Map codes to a sequence.

        Args:
            z: Codes, `[B, K, F]`.
            special_token: Value of positions without a code.
            keep_only_valid_steps: Drop the last `max_delay` steps.

        Returns:
            The sequence, `[B, K, S]`; the index of each of its values in the flattened grid,
            `[K, S]`; and a mask, `[K, S]`, True where it holds a code.

        Raises:
            ValueError: The number of codebooks or frames is not that of the pattern.
        """
        K, F = self.code_steps.shape
        if z.shape[1:] != (K, F):
            raise ValueError(
                f"The pattern has {K} codebooks and {F} frames but the codes have the shape "
                f"{list(z.shape)}. Use the pattern of `get_pattern(codes.shape[-1])`."
            )
        num_steps = self.num_valid_steps if keep_only_valid_steps else self.num_steps
        indexes = torch.full((K, self.num_steps), K * F)
        indexes.scatter_(1, self.code_steps, torch.arange(K * F).view(K, F))
        indexes = to_device(indexes[:, :num_steps], z.device)
        mask = indexes < K * F
        values = pad(z.flatten(1), (0, 1), value=special_token)[:, indexes]
        return PatternOutput(values, indexes, mask)

    def revert_pattern_sequence(self, s: Tensor, special_token: int) -> PatternOutput:
        """Map a sequence, `[B, K, S]`, to the grid; missing codes become `special_token`."""
        indexes, mask = self._revert_indexes(s.shape[2], self.code_steps, s.device)
        values = s.flatten(1)[:, indexes.clamp(max=s[0].numel() - 1)]
        return PatternOutput(values.masked_fill(~mask, special_token), indexes, mask)

    def revert_pattern_logits(self, logits: Tensor, special_token: float) -> PatternOutput:
        """Map logits, `[B, K, S, V]`, to the grid; those of a step predict the next one.

        Without an empty initial step nothing is shifted.
        """
        shift = int(self.starts_with_empty_step)
        indexes, mask = self._revert_indexes(
            logits.shape[2], self.code_steps - shift, logits.device
        )
        values = logits.flatten(1, 2)[:, indexes.clamp(max=logits[0, ..., 0].numel() - 1)]
        return PatternOutput(values.masked_fill(~mask[..., None], special_token), indexes, mask)

    def _revert_indexes(
        self, num_steps: int, steps: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        K = len(steps)
        if num_steps > self.num_steps:
            raise ValueError(
                f"The sequence has {num_steps} steps but its pattern only {self.num_steps}. "
                "Call `get_pattern` with more frames."
            )
        mask = self.code_steps < num_steps  # of the code itself, not of its logits
        indexes = steps + torch.arange(K)[:, None] * num_steps
        indexes = indexes.where(mask, K * num_steps)
        return to_device(indexes, device), to_device(mask, device)


class CodebooksPatternProvider(ABC):
    """Base of all patterns, for any number of frames.

    Args:
        n_q: Number of codebooks, K.

    Raises:
        ValueError: `n_q` is less than 1.
    """

    def __init__(self, n_q: int):
        if n_q < 1:
            raise ValueError(f"n_q is {n_q} but must be at least 1.")
        self.n_q = n_q
        self._cached: dict[int, Pattern] = {}

    def get_pattern(self, timesteps: int) -> Pattern:
        """Pattern of `timesteps` frames; of 0 frames, the initial step only.

        Raises:
            ValueError: `timesteps` is negative.
        """
        if timesteps < 0:
            raise ValueError(f"timesteps is {timesteps} but must be at least 0.")
        if timesteps not in self._cached:
            no_frames = torch.empty(self.n_q, 0, dtype=torch.long)
            steps = self._steps(timesteps) if timesteps else no_frames
            self._cached[timesteps] = Pattern(steps, timesteps)
        return self._cached[timesteps]

    @abstractmethod
    def _steps(self, timesteps: int) -> Tensor:
        """Step of each code, see `Pattern`."""

    def _per_codebook(self, name: str, values: tp.Sequence[int], count: int) -> Tensor:
        if len(values) != count or min(values, default=0) < 0:
            raise ValueError(
                f"{name} is {list(values)}. Give {count} numbers of at least 0 "
                f"for {self.n_q} codebooks."
            )
        return torch.tensor(list(values), dtype=torch.long)[:, None]


class DelayedPatternProvider(CodebooksPatternProvider):
    """Codebook k is delayed by `delays[k]` steps (delay pattern of MusicGen).

    Args:
        n_q: Number of codebooks, K.
        delays: Delay of each codebook in steps; 0, 1, 2, … by default.
        flatten_first: Number of first frames that take one step per code.
        empty_initial: Number of empty steps after the initial one; -1 removes the initial one.
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
        missing = (columns < self.flatten_first) | (late >= len(columns))
        return flat.where(columns < num_flat, steps.masked_fill(missing, -1))


class ParallelPatternProvider(DelayedPatternProvider):
    """All codes of a frame at one step.

    Args:
        n_q: Number of codebooks, K.
        empty_initial: See `DelayedPatternProvider`.
    """

    def __init__(self, n_q: int, empty_initial: int = 0):
        super().__init__(n_q, [0] * n_q, empty_initial=empty_initial)


class UnrolledPatternProvider(CodebooksPatternProvider):
    """Each frame takes several inner steps, from 0 to the maximum of `flattening`.

    An inner step without codebooks is an empty step at every frame, without delay.

    Args:
        n_q: Number of codebooks, K.
        flattening: Inner step of each codebook; 0, 1, 2, … by default.
        delays: Delay of each codebook in frames, equal within an inner step; 0 by default.

    Raises:
        ValueError: Codebooks with one inner step have different delays.
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
                "Codebooks with one inner step must have one delay, but flattening is "
                f"{list(groups)} and delays is {self.delays.flatten().tolist()}."
            )
        self.num_gaps = self.num_inner_steps - len(self.groups.unique())
        same_group = self.groups == self.groups.T  # [K, K]
        self.first_codebooks = same_group.int().argmax(dim=1, keepdim=True)  # of the group, [K, 1]

    @property
    def num_inner_steps(self) -> int:
        """Number of steps per frame."""
        return int(self.groups.max()) + 1

    def num_virtual_steps(self, timesteps: int) -> int:
        """Length of the sequence of `timesteps` frames without delays."""
        return timesteps * self.num_inner_steps + 1

    def _steps(self, timesteps: int) -> Tensor:
        num_times = timesteps + int(self.delays.max())
        frames = torch.arange(num_times).expand(self.n_q, -1)
        times = frames + self.delays
        kept = times < num_times
        # At equal time, empty steps come first, then those of older frames, then by codebook.
        rank = ((times + 1) * num_times + frames) * self.n_q + self.first_codebooks
        steps = torch.full(times.shape, -1)
        steps[kept] = rank[kept].unique(return_inverse=True)[1]
        steps_before = 1 + self.num_gaps * (times + 1)  # the initial step, and empty ones
        return steps.where(~kept, steps + steps_before)


class CoarseFirstPattern(CodebooksPatternProvider):
    """The first codebook of all frames, then the others in parallel.

    Args:
        n_q: Number of codebooks, K.
        delays: Delay of each of the other K - 1 codebooks in steps; 0 by default.
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
    """One code per step: all frames of a group of codebooks, then those of the next group.

    Args:
        n_q: Number of codebooks, K.
        group_by: Codebooks per group.

    Raises:
        ValueError: `group_by` is less than 1.
    """

    def __init__(self, n_q: int, group_by: int = 2):
        super().__init__(n_q)
        if group_by < 1:
            raise ValueError(f"group_by is {group_by} but must be at least 1.")
        self.group_by = group_by

    def _steps(self, timesteps: int) -> Tensor:
        codebooks = torch.arange(self.n_q)[:, None]
        within = codebooks % self.group_by
        before = codebooks - within  # codebooks of the groups before
        size = (self.n_q - before).clamp(max=self.group_by)
        return 1 + before * timesteps + torch.arange(timesteps) * size + within
