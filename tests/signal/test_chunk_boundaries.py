import pytest
import torch

from audiocraft.signal.chunk_boundaries import measure_boundaries

RATE = 4000
BOUNDARIES = [8000, 20000, 30000]


def music(seconds=10.0):
    """Noise whose level varies by a few decibels."""
    rng = torch.Generator().manual_seed(0)
    num_samples = int(seconds * RATE)
    level = torch.sin(torch.arange(num_samples) / 3000) * 0.3 + 1
    return 0.05 * torch.randn(1, num_samples, generator=rng) * level


def test_uninterrupted_audio_has_no_discontinuity():
    found = measure_boundaries(music(), RATE, BOUNDARIES)
    assert found.jumps_db.shape == found.steps.shape == (3,)
    assert found.jumps_db_elsewhere.shape == found.steps_elsewhere.shape
    assert 0.1 < found.jump_ranks().mean() < 0.9
    assert 0.1 < found.step_ranks().mean() < 0.9


def test_level_jump_is_detected():
    wav = music()
    wav[:, BOUNDARIES[1] :] *= 2
    found = measure_boundaries(wav, RATE, BOUNDARIES)
    assert found.jumps_db[1] == pytest.approx(6, abs=1)
    assert found.jump_ranks()[1] == 0
    assert found.jump_ranks()[0] > 0


@pytest.mark.parametrize("offset", [-80, 0, 80])
def test_click_near_a_boundary_is_detected(offset):
    wav = music()
    wav[:, BOUNDARIES[2] + offset] += 0.5
    found = measure_boundaries(wav, RATE, BOUNDARIES)
    assert found.step_ranks()[2] == 0
    assert found.step_ranks()[0] > 0


def test_click_away_from_boundaries_is_ignored():
    wav = music()
    wav[:, 14000] += 1.5
    found = measure_boundaries(wav, RATE, BOUNDARIES)
    assert (found.step_ranks() > 0).all()
    assert found.steps_elsewhere.max() > 1


def test_silence_has_no_level_jump():
    found = measure_boundaries(torch.zeros(1, 40000), RATE, BOUNDARIES)
    assert found.jumps_db.max() == found.steps.max() == 0


@pytest.mark.parametrize(
    ("seconds", "boundaries", "message"),
    [
        (10, [], "there is none"),
        (10, [10], r"1000 and 39000, but \[10\] are too near an end"),
        (10, [39990], "too near an end"),
        (0.6, [1200], "lasts 0.60 s"),
    ],
)
def test_invalid_input_raises(seconds, boundaries, message):
    with pytest.raises(ValueError, match=message):
        measure_boundaries(music(seconds), RATE, boundaries)
