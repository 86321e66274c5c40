import pytest
import torch

from audiocraft.signal.stft import STFT, griffin_lim, mel_filters


def wave(num_samples, seed=0):
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n_fft", "hop_length"), [(64, 20), (64, 32), (63, 21)])
def test_istft_inverts_stft(n_fft, hop_length):
    stft = STFT(n_fft, hop_length)
    original = wave(9 * hop_length)
    spectrum = stft(original)
    assert spectrum.shape == (n_fft // 2 + 1, 9)
    torch.testing.assert_close(stft.inverse(spectrum), original, atol=1e-5, rtol=1e-4)


def test_frames_are_centred_on_their_hop():
    stft = STFT(64, 20)
    click = torch.zeros(10 * 20)
    click[4 * 20 + 10] = 1
    assert stft(click).abs().sum(dim=0).argmax() == 4


def test_reconstructed_phase_is_consistent_with_the_magnitudes():
    stft = STFT(128, 32)
    time = torch.arange(32 * 30)
    magnitude = stft(torch.sin(0.3 * time) + torch.sin(0.9 * time)).abs()
    found = stft(griffin_lim(stft, magnitude, iterations=50)).abs()
    assert (found - magnitude).norm() < 0.1 * magnitude.norm()


def test_phase_does_not_depend_on_the_global_generator():
    stft = STFT(64, 16)
    magnitude = stft(wave(16 * 8)).abs()
    first = griffin_lim(stft, magnitude, iterations=3)
    torch.manual_seed(1234)
    assert torch.equal(griffin_lim(stft, magnitude, iterations=3), first)


@pytest.mark.parametrize("frames", [10, 20, 30])
def test_later_phase_reset_does_not_change_earlier_frames(frames):
    stft = STFT(64, 16)
    magnitude = stft(wave(16 * frames)).abs()
    found = griffin_lim(stft, magnitude, iterations=3, period=30)
    assert torch.equal(found, griffin_lim(stft, magnitude, iterations=3))


def test_part_starting_at_a_period_equals_the_whole():
    stft = STFT(64, 16)
    magnitude = stft(wave(16 * 100)).abs()
    whole = griffin_lim(stft, magnitude, iterations=3, period=20)
    part = griffin_lim(stft, magnitude[:, 40:], iterations=3, period=20)
    reach = 16 * 4 * 4  # four transforms, each of which sees three frames beyond
    torch.testing.assert_close(part[reach:], whole[40 * 16 + reach :], atol=1e-5, rtol=0)
    assert not torch.allclose(part[:reach], whole[40 * 16 : 40 * 16 + reach], atol=1e-3)


def test_hop_longer_than_the_window_raises():
    with pytest.raises(ValueError, match="1 to 32"):
        STFT(64, 33)


def test_mel_filters_average_and_cover_all_frequencies():
    filters = mel_filters(sample_rate=16000, n_fft=1024, n_mels=40)
    torch.testing.assert_close(filters.sum(dim=1), torch.ones(40))
    assert (filters[:, 1:-1].sum(dim=0) > 0).all()
    peaks = filters.argmax(dim=1)
    assert (peaks.diff() > 0).all()
    assert (peaks.diff().diff() >= -1).all()  # ever wider


def test_mel_band_too_narrow_for_any_bin_is_zero_not_nan():
    assert mel_filters(16000, n_fft=64, n_mels=80).isfinite().all()
