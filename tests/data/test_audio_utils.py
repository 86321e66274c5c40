import math

import julius
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocraft.data.audio_utils import (
    _resample_directly,
    convert_audio,
    convert_audio_channels,
    f32_pcm,
    i16_pcm,
    normalize_audio,
    normalize_loudness,
    resample,
)
from audiocraft.errors import AudioError

RATES = [(44100, 32000), (48000, 32000), (32000, 16000), (16000, 32000), (22050, 24000), (3, 2)]


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("num_samples", [1, 50, 5001])
def test_resampling_agrees_with_julius(from_rate, to_rate, num_samples):
    wav = torch.randn(2, 3, num_samples)
    expected = julius.resample_frac(wav, from_rate, to_rate)
    torch.testing.assert_close(resample(wav, from_rate, to_rate), expected, atol=1e-5, rtol=1e-5)


def test_resampling_keeps_its_precision_under_autocast():
    wav = torch.randn(1, 5000)
    expected = resample(wav, 44100, 32000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample(wav, 44100, 32000), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_resampling_is_as_precise_on_a_gpu():
    wav = torch.randn(2, 50_000)
    ours = resample(wav.cuda(), 44100, 32000).cpu()
    torch.testing.assert_close(ours, resample(wav, 44100, 32000), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(441, 320), (3, 2), (2, 3)])
def test_resampling_in_little_memory_gives_the_same(from_rate, to_rate):
    wav = torch.randn(2, 3000)
    ours = _resample_directly(wav, from_rate, to_rate)
    torch.testing.assert_close(ours, resample(wav, from_rate, to_rate), atol=2e-4, rtol=1e-4)


def test_coprime_rates_need_no_large_kernel():
    time = torch.arange(44101) / 44101
    wav = torch.sin(2 * math.pi * 440 * time)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(32003) / 32003)
    ours = resample(wav, 44101, 32003)
    assert ours.shape == (32003,)
    torch.testing.assert_close(ours[100:-100], expected[100:-100], atol=1e-3, rtol=0)


def test_resampling_keeps_gradients_and_precision():
    wav = torch.randn(1, 500, dtype=torch.float64, requires_grad=True)
    out = resample(wav, 3, 2)
    out.sum().backward()
    assert out.dtype == torch.float64
    assert wav.grad is not None


def test_a_sample_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        resample(torch.zeros(1, 10), 0, 16000)


def test_mixing_and_resampling_commute():
    wav = torch.randn(2, 4410)
    mixed = convert_audio(wav, 44100, 32000, 1)
    later = convert_audio_channels(resample(wav, 44100, 32000), 1)
    torch.testing.assert_close(mixed, later, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("have", "wanted"), [(1, 1), (2, 1), (6, 1), (1, 2), (1, 4), (4, 2)])
def test_channels_are_mixed_or_repeated(have, wanted):
    wav = torch.randn(3, have, 20)
    out = convert_audio_channels(wav, wanted)
    assert out.shape == (3, wanted, 20)
    if wanted == 1:
        torch.testing.assert_close(out, wav.mean(dim=1, keepdim=True))
    else:
        assert torch.equal(out[:, 0], wav[:, 0])


def test_unsupported_channel_conversions_are_refused():
    with pytest.raises(ValueError, match="2 channels cannot be converted to 4"):
        convert_audio_channels(torch.zeros(2, 10), 4)


@given(gain=st.floats(0.01, 10), headroom=st.floats(0, 20))
def test_peak_normalization_reaches_the_headroom(gain, headroom):
    wav = torch.sin(torch.arange(1000) * 0.1)[None] * gain
    out = normalize_audio(wav, strategy="peak", peak_clip_headroom_db=headroom)
    assert 20 * math.log10(out.abs().max()) == pytest.approx(-headroom, abs=1e-3)


def test_without_normalize_the_level_is_not_raised():
    quiet = torch.full((1, 10), 0.1)
    assert torch.equal(normalize_audio(quiet, normalize=False), quiet)
    loud = torch.full((1, 10), 4.0)
    assert normalize_audio(loud, normalize=False).max() < 1


def test_rms_is_computed_on_the_mono_mix():
    wav = torch.stack([torch.ones(100), -torch.ones(100) * 0.5]) * 0.1
    out = normalize_audio(wav, strategy="rms", rms_headroom_db=20)
    assert float(out.mean(dim=0).square().mean().sqrt()) == pytest.approx(0.1)


def test_loudness_reaches_its_target():
    wav = torch.randn(2, 32000) * 0.01
    out = normalize_loudness(wav, 16000, loudness_headroom_db=20)
    again = normalize_loudness(out, 16000, loudness_headroom_db=20)
    torch.testing.assert_close(again, out, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wav", [torch.zeros(1, 16000), torch.randn(1, 100)])
def test_silent_and_very_short_waveforms_keep_their_level(wav):
    assert torch.equal(normalize_loudness(wav, 16000), wav)


def test_the_compressor_avoids_hard_clipping():
    wav = torch.randn(1, 16000)
    kwargs = {"strategy": "loudness", "sample_rate": 16000, "loudness_headroom_db": 0}
    assert (normalize_audio(wav, **kwargs).abs() == 1).any()
    assert normalize_audio(wav, loudness_compressor=True, **kwargs).abs().max() < 1


def test_clipping_is_reported(caplog):
    normalize_audio(
        torch.tensor([[0.1] * 99 + [1.0]]),
        strategy="rms",
        rms_headroom_db=0,
        log_clipping=True,
        stem_name="song",
    )
    assert "Clipping song" in caplog.text


@pytest.mark.parametrize("strategy", ["peak", "rms", "clip", "loudness"])
def test_silence_is_preserved(strategy):
    out = normalize_audio(torch.zeros(2, 16000), strategy=strategy, sample_rate=16000)
    assert not out.any()


def test_an_unknown_strategy_lists_the_supported_ones():
    with pytest.raises(ValueError, match="peak, clip, rms, loudness"):
        normalize_audio(torch.zeros(1, 10), strategy="loud")  # type: ignore


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1))
def test_pcm_16_bit_round_trips_through_floats(samples):
    pcm = torch.tensor(samples, dtype=torch.int16)
    assert torch.equal(i16_pcm(f32_pcm(pcm)), pcm)


def test_full_scale_does_not_wrap_around():
    assert i16_pcm(torch.tensor([1.0, -1.0])).tolist() == [32767, -32767]
    assert i16_pcm(torch.tensor([3.0, -3.0])).tolist() == [32767, -32768]


@pytest.mark.parametrize("convert", [f32_pcm, i16_pcm])
def test_other_sample_types_are_refused(convert):
    with pytest.raises(AudioError, match=r"torch\.uint8"):
        convert(torch.zeros(3, dtype=torch.uint8))
