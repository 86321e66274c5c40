"""Samplers: which segment of which file a sample is, and which samples a process reads.

A segment is a function of (seed, epoch, index) only. No file is opened here, so that the number of
workers and processes, or an interruption, does not change what is drawn.
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

MAX_MULTINOMIAL_FILES = 10_000  # torch.multinomial takes time linear in the number of files


class SegmentPosition(tp.NamedTuple):
    """File and start of a segment."""

    file: int  # index in the manifest
    seek_time: float  # seconds


@lru_cache(maxsize=2)
def _permutation(num_files: int, seed: int) -> Tensor:
    return torch.randperm(num_files, generator=torch.Generator().manual_seed(seed)).int()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentSampler:
    """Draws segments from files.

    Up to ten thousand files, draws are identical to those of the original. With more files another
    algorithm draws with the same probabilities.

    Args:
        durations: Duration of each file, in seconds, `[N]`.
        weights: Sampling weight of each file, `[N]`.
        segment_duration: Duration of a segment, in seconds; `None`: whole files, in order.
        num_samples: Segments per epoch.
        shuffle: Draw different segments in every epoch.
        shuffle_seed: Seed of the draws.
        sample_on_duration: Draw files in proportion to their durations.
        sample_on_weight: Draw files in proportion to their weights.
        permutation_on_files: Draw files without replacement until all were drawn.
        min_segment_ratio: Minimum share of a segment that is inside its file, the rest is padding.
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
    arrays: SharedArrays = field(init=False)  # shared with all workers

    def __post_init__(self, durations: Tensor, weights: Tensor):
        if self.permutation_on_files and self.weighted:
            raise ValueError(
                "permutation_on_files=true draws every file equally often: "
                "also set sample_on_duration=false and sample_on_weight=false."
            )
        if not 0 <= self.min_segment_ratio <= 1:
            raise ValueError(
                f"min_segment_ratio must be between 0 and 1 but is {self.min_segment_ratio}."
            )
        if self.segment_duration is not None and not self.segment_duration > 0:
            raise ValueError(
                f"segment_duration must be positive but is {self.segment_duration} seconds. "
                "Set it to null for whole files."
            )
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1 but is {self.num_samples}.")
        arrays = {"durations": durations.double().numpy()}
        if self.weighted:
            arrays |= _probabilities(self._scores(durations, weights))
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
        """Probability of each file, `[N]`."""
        if not self.weighted:
            return torch.full((self.num_files,), 1 / self.num_files)
        if "probabilities" in self.arrays:
            return torch.from_numpy(self.arrays["probabilities"])
        return torch.from_numpy(np.diff(self.arrays["cumulative"], prepend=0)).float()

    def generator(self, epoch: int, index: int) -> torch.Generator:
        """Random generator of one sample."""
        seed = index
        if self.shuffle:
            seed += self.num_samples * (epoch + self.shuffle_seed)
        return torch.Generator().manual_seed(seed)

    def draw(
        self, epoch: int, index: int, rng: torch.Generator, attempt: int = 0
    ) -> SegmentPosition:
        """Draw the segment of a sample.

        Args:
            epoch: Index of the epoch.
            index: Index of the sample in the epoch.
            rng: Generator of this sample, from `generator`.
            attempt: Number of files drawn before for this sample that could not be read.
        """
        if self.segment_duration is None:
            return SegmentPosition(self._draw_uniformly(rng) if attempt else index, 0.0)
        if self.permutation_on_files and not attempt:
            file = self._next_in_permutation(epoch, index)
        elif self.weighted:
            file = self._draw_weighted(rng)
        else:
            file = self._draw_uniformly(rng)
        inside = self.segment_duration * self.min_segment_ratio
        spare = max(0.0, float(self.arrays["durations"][file]) - inside)
        return SegmentPosition(file, float(torch.rand(1, generator=rng)) * spare)

    def _draw_weighted(self, rng: torch.Generator) -> int:
        if "probabilities" in self.arrays:
            return int(torch.multinomial(self.probabilities, 1, generator=rng))
        quantile = float(torch.rand((), generator=rng, dtype=torch.float64))
        return int(np.searchsorted(self.arrays["cumulative"], quantile, side="right"))

    def _draw_uniformly(self, rng: torch.Generator) -> int:
        return int(torch.randint(self.num_files, (1,), generator=rng))

    def _next_in_permutation(self, epoch: int, index: int) -> int:
        total = index + (self.num_samples * epoch if self.shuffle else 0)
        round_, position = divmod(total, self.num_files)
        return int(_permutation(self.num_files, self.shuffle_seed + round_)[position])


def _probabilities(scores: Tensor) -> dict[str, np.ndarray]:
    """Probability of each file or, with many files, the cumulative probabilities."""
    total = scores.float().sum()
    if not total > 0:
        raise ManifestError(
            "All weights in the manifest are 0. Set the weight of at least one file above 0."
        )
    if len(scores) <= MAX_MULTINOMIAL_FILES:
        return {"probabilities": (scores.float() / total).numpy()}
    cumulative = scores.double().numpy().cumsum()
    cumulative /= cumulative[-1]  # ends at exactly 1, above every quantile
    return {"cumulative": cumulative}


class ShardedSampler(Sampler[int]):
    """Sample indices of one process, in order.

    Each process takes its part of every batch, so that the batches of all processes together are
    those of a single process. An incomplete last batch is dropped, or filled with the first samples
    until its size is divisible by the number of processes.

    Args:
        num_samples: Samples per epoch.
        batch_size: Samples per batch, over all processes.
        rank: Index of this process.
        world_size: Number of processes.
        drop_last: Drop an incomplete last batch.
        max_batches: Maximum number of batches per epoch; `None`: no limit.
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
        """Batches of a complete epoch."""
        return -(-self.total // self.batch_size)

    def start_at(self, batch: int) -> None:
        """Start the next epoch at batch number `batch`, counted from 0; later epochs are complete.

        Until that epoch starts, `len` is the number of its remaining samples.

        Raises:
            ValueError: `batch` is out of range.
        """
        if not 0 <= batch <= self.num_batches:
            raise ValueError(
                f"batch={batch} is out of range for an epoch of {self.num_batches} batches. "
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
