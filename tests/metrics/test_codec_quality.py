import math

import pytest
import torch

from audiocraft.metrics.codec_quality import (
    chroma_agreement,
    level_error_db,
    log_mel_distance,
    measure,
    onset_agreement,
)

RATE = 16000


def tone(*frequencies, seconds=1.0):
    """A chord, `[1, 1, T]`."""
    time = torch.arange(int(seconds * RATE)) / RATE
    waves = [torch.sin(2 * math.pi * f * time) for f in frequencies]
    return 0.1 * torch.stack(waves).sum(0)[None, None]


def clicks(period, seconds=2.0):
    """Short bursts of noise, one every `period` seconds, `[1, 1, T]`."""
    wav = torch.zeros(1, 1, int(seconds * RATE))
    burst = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 0.3
    for start in range(0, wav.shape[-1] - 400, int(period * RATE)):
        wav[..., start : start + 400] = burst
    return wav


def noise(seconds=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, int(seconds * RATE), generator=rng) * 0.1


def test_equal_waveforms_have_perfect_scores():
    wav = tone(220, 330) + clicks(0.25, seconds=1.0)
    found = measure(wav, wav, RATE)
    assert found["log_mel_distance"] == 0
    assert found["level_error_db"] == 0
    assert found["chroma_agreement"] == pytest.approx(1, abs=1e-5)
    assert found["onset_agreement"] == pytest.approx(1, abs=1e-5)


def test_log_mel_distance_of_a_gain_equals_the_gain():
    distance = log_mel_distance(noise(), noise() * math.e, RATE)
    assert float(distance) == pytest.approx(1, abs=0.01)


def test_chroma_ignores_octave_and_level_but_not_pitch():
    original = tone(220, 277.2)
    assert chroma_agreement(original, 0.1 * tone(440, 554.4), RATE) > 0.9
    assert chroma_agreement(original, tone(233.1, 311.1), RATE) < 0.3
    assert chroma_agreement(original, noise(), RATE).abs() < 0.5


def test_onset_agreement_does_not_depend_on_level():
    rhythm = clicks(0.25)
    assert onset_agreement(rhythm, 0.5 * rhythm, RATE) > 0.95
    assert onset_agreement(rhythm, clicks(0.31), RATE) < 0.6


def test_level_error_is_in_decibels():
    assert float(level_error_db(noise(), noise() / 2, RATE)) == pytest.approx(6.02, abs=0.01)


def test_items_are_measured_independently():
    originals, others = torch.cat([tone(220), noise()]), torch.cat([tone(230), noise(seed=1)])
    together = measure(originals, others, RATE)
    for name, values in together.items():
        alone = [measure(originals[i, None], others[i, None], RATE)[name] for i in range(2)]
        torch.testing.assert_close(values, torch.cat(alone))


def test_silence_gives_finite_numbers():
    silence = torch.zeros(1, 1, RATE)
    for values in measure(silence, silence, RATE).values():
        assert values.isfinite().all()


def test_incompatible_waveforms_raise():
    with pytest.raises(ValueError, match="same shape"):
        measure(noise(), noise(2.0), RATE)
    with pytest.raises(ValueError, match="too few"):
        measure(noise(0.1), noise(0.1), RATE)
