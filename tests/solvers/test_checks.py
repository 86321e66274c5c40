"""What a run is told before it begins."""

import numpy as np
import pytest

from audiocraft.solvers.checks import padding_of


@pytest.mark.parametrize(
    ("durations", "segment_duration"),
    [([10.0, 10.0], 10.0), ([200.0], 30.0), ([10.0, 10.0], 20.0), ([1.0, 100.0], None)],
)
def test_music_that_fills_segments_is_not_spoken_of(durations, segment_duration):
    assert padding_of(np.array(durations), segment_duration) is None


def test_segments_that_are_mostly_padding_are_told_with_both_lengths():
    told = padding_of(np.array([5.0, 15.0]), 100.0)
    assert told is not None
    assert told.startswith("Only 10% of a segment is music")
    assert "is 100 s but files last 10.0 s" in told
