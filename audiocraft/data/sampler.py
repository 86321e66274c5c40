"""Which part of which file a sample is: a function of (seed, epoch, index) and of nothing else.

No file is touched here, so that the number of workers and processes, or a run that stopped and
went on, cannot change what is drawn.
"""

import typing as tp
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..errors import ManifestError


class Draw(tp.NamedTuple):
    """Where a segment comes from."""

    file: int  # its index in the manifest
    seek_time: float  # seconds


@lru_cache(maxsize=4)
def _permutation(num_files: int, seed: int) -> list[int]:
    return torch.randperm(num_files, generator=torch.Generator().manual_seed(seed)).tolist()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentSampler:
    """Draws segments from files.

    Args:
        durations: Seconds of each file, `[N]`.
        weights: How often to draw each file, `[N]`.
        segment_duration: Seconds of a segment; `None` means whole files, one after the other.
        num_samples: Segments of an epoch.
        shuffle: Draw anew in every epoch.
        shuffle_seed: Another seed, another order.
        sample_on_duration: Draw files in proportion to their durations.
        sample_on_weight: Draw files in proportion to their weights.
        permutation_on_files: Go through all files before any comes again, instead of drawing.
        min_segment_ratio: Least share of a segment that is inside its file.
    """

    durations: Tensor
    weights: Tensor
    segment_duration: float | None
    num_samples: int
    shuffle: bool
    shuffle_seed: int = 0
    sample_on_duration: bool = True
    sample_on_weight: bool = True
    permutation_on_files: bool = False
    min_segment_ratio: float = 0.5

    def __post_init__(self):
        if self.permutation_on_files and self.weighted:
            raise ValueError(
                "permutation_on_files takes every file equally often: "
                "set sample_on_duration=false and sample_on_weight=false with it."
            )
        if not 0 <= self.min_segment_ratio <= 1:
            raise ValueError(
                f"min_segment_ratio is a share from 0 to 1, not {self.min_segment_ratio}."
            )
        if self.segment_duration is not None and not self.segment_duration > 0:
            raise ValueError(
                f"segment_duration must be positive but is {self.segment_duration} seconds. "
                "Leave it null for whole files."
            )
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1 but is {self.num_samples}.")
        if self.weighted and not self._scores().sum() > 0:
            raise ManifestError("Every file has weight 0 in the manifest: none can be drawn.")

    @property
    def weighted(self) -> bool:
        return self.sample_on_duration or self.sample_on_weight

    def __len__(self) -> int:
        return len(self.durations) if self.segment_duration is None else self.num_samples

    def _scores(self) -> Tensor:
        scores = torch.ones(len(self.durations))
        if self.sample_on_weight:
            scores = scores * self.weights
        if self.sample_on_duration:
            scores = scores * self.durations
        return scores.float()

    @cached_property
    def probabilities(self) -> Tensor:
        """Chance of each file, `[N]`."""
        scores = self._scores()
        return scores / scores.sum()

    def generator(self, epoch: int, index: int) -> torch.Generator:
        """The dice of one sample."""
        seed = index
        if self.shuffle:
            seed += self.num_samples * (epoch + self.shuffle_seed)
        return torch.Generator().manual_seed(seed)

    def draw(self, epoch: int, index: int, rng: torch.Generator, attempt: int = 0) -> Draw:
        """Choose the segment of a sample.

        Args:
            epoch: Which epoch.
            index: Which sample of it.
            rng: The dice of this sample, from `generator`.
            attempt: Counts up where the segment before could not be read; another file is drawn.
        """
        if self.segment_duration is None:
            return Draw(self._draw_uniformly(rng) if attempt else index, 0.0)
        if self.permutation_on_files and not attempt:
            file = self._next_in_permutation(epoch, index)
        elif self.weighted:
            file = int(torch.multinomial(self.probabilities, 1, generator=rng))
        else:
            file = self._draw_uniformly(rng)
        inside = self.segment_duration * self.min_segment_ratio
        spare = max(0.0, float(self.durations[file]) - inside)
        return Draw(file, float(torch.rand(1, generator=rng)) * spare)

    def _draw_uniformly(self, rng: torch.Generator) -> int:
        return int(torch.randint(len(self.durations), (1,), generator=rng))

    def _next_in_permutation(self, epoch: int, index: int) -> int:
        total = index + (self.num_samples * epoch if self.shuffle else 0)
        round_, position = divmod(total, len(self.durations))
        return _permutation(len(self.durations), self.shuffle_seed + round_)[position]
