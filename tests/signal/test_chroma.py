import math

import pytest
import torch

from audiocraft.signal.chroma import ChromaExtractor, chroma_filters

RATE = 16000


def sine(frequency: float, seconds: float = 1.0):
    return torch.sin(2 * math.pi * frequency * torch.arange(int(seconds * RATE)) / RATE)[None, None]


@pytest.mark.parametrize("octave", [1, 2, 4])
@pytest.mark.parametrize(("pitch_class", "frequency"), [(9, 220.0), (0, 261.63), (4, 329.63)])
def test_strongest_pitch_class_is_that_of_the_tone(pitch_class, frequency, octave):
    chroma = ChromaExtractor(RATE, argmax=True)(sine(frequency * octave))
    assert (chroma.argmax(dim=-1) == pitch_class).all()
    assert (chroma.sum(dim=-1) == 1).all()


def test_chroma_does_not_depend_on_loudness():
    extract = ChromaExtractor(RATE, radix2_exp=10)
    wav = torch.randn(2, 1, 5000)
    torch.testing.assert_close(extract(wav), extract(wav * 0.1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_samples", [1, 100, 1024, 3000])
def test_one_frame_per_hop_for_any_length(num_samples):
    extract = ChromaExtractor(RATE, radix2_exp=10)
    frames = 1 + max(num_samples, 1024) // 256
    assert extract(torch.randn(1, 1, num_samples)).shape == (1, frames, 12)


def test_state_dict_has_one_buffer_as_released_checkpoints():
    assert list(ChromaExtractor(RATE).state_dict()) == ["spec.window"]


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_chroma"),
    [(32_000, 2**14, 12), (16_000, 2**12, 12), (44_100, 2**10, 24), (22_050, 1000, 36)],
)
def test_filters_are_those_of_librosa(sample_rate, n_fft, n_chroma):
    filters = pytest.importorskip("librosa", reason="librosa is not installed").filters
    expected = filters.chroma(sr=sample_rate, n_fft=n_fft, tuning=0, n_chroma=n_chroma)
    ours = chroma_filters(sample_rate, n_fft, n_chroma)
    torch.testing.assert_close(ours, torch.from_numpy(expected).float(), atol=1e-6, rtol=0)
