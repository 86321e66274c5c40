"""Which part of which file a sample is: a function of (seed, epoch, index) and of nothing else.

No file is touched here, so that the number of workers and processes, or a run that stopped and
went on, cannot change what is drawn.
"""

import typing as tp
from dataclasses import InitVar, dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from ..errors import ManifestError
from .shared_arrays import SharedArrays

MANY_FILES = 10_000  # torch.multinomial throws a die for every file, at every draw


class Draw(tp.NamedTuple):
    """Where a segment comes from."""

    file: int  # its index in the manifest
    seek_time: float  # seconds


@lru_cache(maxsize=2)
def _permutation(num_files: int, seed: int) -> Tensor:
    return torch.randperm(num_files, generator=torch.Generator().manual_seed(seed)).int()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentSampler:
    """Draws segments from files.

    Up to ten thousand files the draws are those of the original; among more of them a file is
    found in other ways, with the same chances.

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

    durations: InitVar[Tensor]
    weights: InitVar[Tensor]
    segment_duration: float | None
    num_samples: int
    shuffle: bool
    shuffle_seed: int = 0
    sample_on_duration: bool = True
    sample_on_weight: bool = True
    permutation_on_files: bool = False
    min_segment_ratio: float = 0.5
    arrays: SharedArrays = field(init=False)  # what all workers look at

    def __post_init__(self, durations: Tensor, weights: Tensor):
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
        arrays = {"durations": durations.double().numpy()}
        if self.weighted:
            arrays |= _chances(self._scores(durations, weights))
        object.__setattr__(self, "arrays", SharedArrays(arrays))

    @property
    def weighted(self) -> bool:
        return self.sample_on_duration or self.sample_on_weight

    @property
    def num_files(self) -> int:
        return len(self.arrays["durations"])

    def __len__(self) -> int:
        return self.num_files if self.segment_duration is None else self.num_samples

    def _scores(self, durations: Tensor, weights: Tensor) -> Tensor:
        scores = torch.ones(len(durations))
        if self.sample_on_weight:
            scores = scores * weights
        if self.sample_on_duration:
            scores = scores * durations
        return scores

    @property
    def probabilities(self) -> Tensor:
        """Chance of each file, `[N]`."""
        if not self.weighted:
            return torch.full((self.num_files,), 1 / self.num_files)
        if "chances" in self.arrays:
            return torch.from_numpy(self.arrays["chances"])
        return torch.from_numpy(np.diff(self.arrays["cumulative"], prepend=0)).float()

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
            file = self._draw_by_chance(rng)
        else:
            file = self._draw_uniformly(rng)
        inside = self.segment_duration * self.min_segment_ratio
        spare = max(0.0, float(self.arrays["durations"][file]) - inside)
        return Draw(file, float(torch.rand(1, generator=rng)) * spare)

    def _draw_by_chance(self, rng: torch.Generator) -> int:
        if "chances" in self.arrays:
            return int(torch.multinomial(self.probabilities, 1, generator=rng))
        place = float(torch.rand((), generator=rng, dtype=torch.float64))
        return int(np.searchsorted(self.arrays["cumulative"], place, side="right"))

    def _draw_uniformly(self, rng: torch.Generator) -> int:
        return int(torch.randint(self.num_files, (1,), generator=rng))

    def _next_in_permutation(self, epoch: int, index: int) -> int:
        total = index + (self.num_samples * epoch if self.shuffle else 0)
        round_, position = divmod(total, self.num_files)
        return int(_permutation(self.num_files, self.shuffle_seed + round_)[position])


def _chances(scores: Tensor) -> dict[str, np.ndarray]:
    """The chance of each file or, where they are many, the chance of all up to each."""
    total = scores.float().sum()
    if not total > 0:
        raise ManifestError("Every file has weight 0 in the manifest: none can be drawn.")
    if len(scores) <= MANY_FILES:
        return {"chances": (scores.float() / total).numpy()}
    cumulative = scores.double().numpy().cumsum()
    cumulative /= cumulative[-1]  # to 1 sharp, which no place reaches
    return {"cumulative": cumulative}


class ShardedSampler(Sampler[int]):
    """The samples of one process, in order.

    Every process takes its part of each batch, so the batches of all processes together are
    those of a single one. An incomplete last batch is left out, or filled up with the first
    samples until it divides.

    Args:
        num_samples: Samples of an epoch.
        batch_size: Samples per batch, over all processes.
        rank: Which process this is.
        world_size: How many there are.
        drop_last: Leave an incomplete batch out.
        max_batches: End an epoch after so many batches; `None` is no limit.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        max_batches: int | None = None,
    ):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        total = num_samples // batch_size * batch_size if drop_last else num_samples
        if max_batches is not None:
            total = min(total, max_batches * batch_size)
        self.total = -(-total // world_size) * world_size
        self._first_batch = 0

    @property
    def num_batches(self) -> int:
        """Batches of a whole epoch."""
        return -(-self.total // self.batch_size)

    def start_at(self, batch: int) -> None:
        """Let the next epoch begin with that batch, counted from 0; those after it are whole.

        The batches are those that an epoch from the beginning has there, whatever the number of
        workers. Until it begins `len` counts what is left of it.

        Raises:
            ValueError: An epoch has not so many batches.
        """
        if not 0 <= batch <= self.num_batches:
            raise ValueError(
                f"An epoch of {self.num_batches} batches cannot start at batch {batch}. "
                f"Choose 0 to {self.num_batches}."
            )
        self._first_batch = batch

    def __len__(self) -> int:
        return max(0, self.total - self._first_batch * self.batch_size) // self.world_size

    def __iter__(self) -> tp.Iterator[int]:
        first_batch, self._first_batch = self._first_batch, 0
        for start in range(first_batch * self.batch_size, self.total, self.batch_size):
            size = min(self.batch_size, self.total - start) // self.world_size
            first = start + self.rank * size
            yield from (index % self.num_samples for index in range(first, first + size))
