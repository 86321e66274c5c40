"""Whether the seams of a long piece can be heard: is the level another, is there a click?

Music jumps and clicks by itself, so a seam is judged by the rest of its own piece: of seams that
nobody hears, half lie above the middle of what is measured elsewhere.
"""

import typing as tp

import torch
from torch import Tensor

SIDE = 0.25  # seconds whose levels are compared before and after a seam
NEAR = 0.03  # seconds before and after a seam in which a click would be
EVERY = 0.05  # seconds between the places elsewhere
SILENCE = 1e-4  # amplitude below which levels do not differ: 80 dB below full scale


class BoundaryMeasurements(tp.NamedTuple):
    """What is measured at the seams of a piece, and at places away from them."""

    jumps_db: Tensor  # [seams], by how much it is louder or softer after than before
    steps: Tensor  # [seams], largest difference of two neighbouring samples
    jumps_db_elsewhere: Tensor  # [places]
    steps_elsewhere: Tensor  # [places]

    def jump_ranks(self) -> Tensor:
        """For each seam the share of places elsewhere whose level jumps at least as much."""
        return _ranks(self.jumps_db, self.jumps_db_elsewhere)

    def step_ranks(self) -> Tensor:
        """For each seam the share of places elsewhere with at least as large a step."""
        return _ranks(self.steps, self.steps_elsewhere)


def measure_boundaries(
    wav: Tensor, sample_rate: int, boundaries: tp.Sequence[int]
) -> BoundaryMeasurements:
    """Measure a piece at its seams and elsewhere.

    Args:
        wav: Waveform, `[C, T]`.
        sample_rate: Samples per second.
        seams: The samples at which something new begins.

    Raises:
        ValueError: There is no seam, one is too near an end, or nothing is left to compare with.
    """
    side, length = int(SIDE * sample_rate), wav.shape[-1]
    outside = [boundary for boundary in boundaries if not side <= boundary <= length - side]
    if len(boundaries) == 0 or outside:
        wrong = f"{outside} are too near an end" if outside else "there is none"
        raise ValueError(
            f"Seams must lie between the samples {side} and {length - side}, but {wrong}."
        )
    places = torch.arange(side, length - side + 1, max(1, int(EVERY * sample_rate)))
    distances = (places[:, None] - torch.tensor(boundaries)).abs().min(dim=1).values
    elsewhere = places[distances > side].tolist()
    if not elsewhere:
        raise ValueError(
            f"The piece lasts {length / sample_rate:.2f} s and has no place that is {SIDE} s away "
            "from its seams. Give a longer one."
        )
    mono = wav.detach().float().cpu().mean(dim=0)
    at_boundaries, away = (
        torch.tensor([_measure(mono, sample_rate, at) for at in where])
        for where in (boundaries, elsewhere)
    )
    return BoundaryMeasurements(at_boundaries[:, 0], at_boundaries[:, 1], away[:, 0], away[:, 1])


def _measure(mono: Tensor, sample_rate: int, at: int) -> tuple[float, float]:
    """Change of level in dB, and the largest step, around a sample of `[T]`."""
    side, near = int(SIDE * sample_rate), int(NEAR * sample_rate)
    before, after = mono[at - side : at], mono[at : at + side]
    levels = torch.stack([before, after]).square().mean(dim=1).sqrt().clamp(min=SILENCE)
    jump = (20 * levels.log10()).diff().abs()
    return float(jump), float(mono[at - near : at + near].diff().abs().max())


def _ranks(values: Tensor, elsewhere: Tensor) -> Tensor:
    return (elsewhere >= values[:, None]).float().mean(dim=1)
