"""Chunk boundaries: level changes and clicks where chunks of a long waveform meet.

Music has level changes and clicks of its own, so a boundary is compared with other positions of
the same waveform: at half of all inaudible boundaries the change exceeds the median elsewhere.
"""

import typing as tp

import torch
from torch import Tensor

SIDE = 0.25  # seconds whose levels are compared, before and after a boundary
NEAR = 0.03  # seconds before and after a boundary that are searched for a click
EVERY = 0.05  # seconds between the positions elsewhere
SILENCE = 1e-4  # amplitude below which levels count as equal: 80 dB below full scale


class BoundaryMeasurements(tp.NamedTuple):
    """Level changes and clicks of a waveform, at its chunk boundaries and elsewhere."""

    jumps_db: Tensor  # [boundaries], change of the level
    steps: Tensor  # [boundaries], largest difference of neighbouring samples
    jumps_db_elsewhere: Tensor  # [positions]
    steps_elsewhere: Tensor  # [positions]

    def jump_ranks(self) -> Tensor:
        """For each boundary, the share of positions elsewhere with at least its level change."""
        return _ranks(self.jumps_db, self.jumps_db_elsewhere)

    def step_ranks(self) -> Tensor:
        """For each boundary, the share of positions elsewhere with at least its step."""
        return _ranks(self.steps, self.steps_elsewhere)


def measure_boundaries(
    wav: Tensor, sample_rate: int, boundaries: tp.Sequence[int]
) -> BoundaryMeasurements:
    """Measure a waveform at its chunk boundaries and elsewhere.

    Args:
        wav: Waveform, `[C, T]`.
        sample_rate: Sample rate of `wav`.
        boundaries: First sample of each chunk but the first.

    Raises:
        ValueError: There is no boundary, one is too near an end, or no other position is left.
    """
    side, length = int(SIDE * sample_rate), wav.shape[-1]
    outside = [boundary for boundary in boundaries if not side <= boundary <= length - side]
    if len(boundaries) == 0 or outside:
        problem = f"{outside} are too near an end" if outside else "there is none"
        raise ValueError(
            f"Boundaries must lie between the samples {side} and {length - side}, but {problem}."
        )
    positions = torch.arange(side, length - side + 1, max(1, int(EVERY * sample_rate)))
    distances = (positions[:, None] - torch.tensor(boundaries)).abs().min(dim=1).values
    elsewhere = positions[distances > side].tolist()
    if not elsewhere:
        raise ValueError(
            f"The waveform lasts {length / sample_rate:.2f} s and has no position {SIDE} s away "
            "from its boundaries. Provide a longer one."
        )
    mono = wav.detach().float().cpu().mean(dim=0)
    at_boundaries, away = (
        torch.tensor([_measure(mono, sample_rate, at) for at in where])
        for where in (boundaries, elsewhere)
    )
    return BoundaryMeasurements(at_boundaries[:, 0], at_boundaries[:, 1], away[:, 0], away[:, 1])


def _measure(mono: Tensor, sample_rate: int, at: int) -> tuple[float, float]:
    """Level change in dB and largest step around a sample of `[T]`."""
    side, near = int(SIDE * sample_rate), int(NEAR * sample_rate)
    before, after = mono[at - side : at], mono[at : at + side]
    levels = torch.stack([before, after]).square().mean(dim=1).sqrt().clamp(min=SILENCE)
    jump = (20 * levels.log10()).diff().abs()
    return float(jump), float(mono[at - near : at + near].diff().abs().max())


def _ranks(values: Tensor, elsewhere: Tensor) -> Tensor:
    return (elsewhere >= values[:, None]).float().mean(dim=1)
