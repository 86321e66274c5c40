"""Spectral losses and SI-SNR: properties, and comparison with an independent mel spectrogram."""

import math

import pytest
import torch
import torchaudio
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.losses import (
    SISNR,
    MelSpectrogramL1Loss,
    MRSTFTLoss,
    MultiScaleMelSpectrogramLoss,
)
from audiocraft.losses.builders import LOSSES, get_loss
from audiocraft.losses.spectral import MelSpectrogram

RATE = 16_000
SPECTRAL = [
    MelSpectrogramL1Loss(RATE),
    MultiScaleMelSpectrogramLoss(RATE),
    MultiScaleMelSpectrogramLoss(RATE, alphas=True, normalized=False),
    MRSTFTLoss(),
]


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", SPECTRAL, ids=lambda loss: type(loss).__name__)
class TestSpectralLoss:
    def test_is_zero_for_equal_waveforms_and_grows_with_noise(self, loss):
        target = noise(2, 2, 4000)
        values = [float(loss(target + g * noise(2, 2, 4000, seed=1), target)) for g in (0, 0.3, 1)]
        assert values[0] == pytest.approx(0, abs=1e-6)
        assert values[0] < values[1] < values[2]

    def test_does_not_depend_on_the_sign_of_the_waveform(self, loss):
        one, other = noise(1, 1, 3000), noise(1, 1, 3000, seed=1)
        torch.testing.assert_close(loss(-one, other), loss(one, other))

    @pytest.mark.parametrize("level", [0.0, 1.0, 100.0])
    def test_silence_and_constants_have_finite_losses_and_gradients(self, loss, level):
        estimate = torch.full((1, 1, 3000), level, requires_grad=True)
        value = loss(estimate, torch.zeros(1, 1, 3000))
        value.backward()
        assert value.detach().isfinite()
        assert estimate.grad is not None
        assert estimate.grad.isfinite().all()

    @pytest.mark.parametrize("length", [1, 50, 700])
    def test_clips_shorter_than_a_window_are_padded(self, loss, length):
        assert math.isfinite(loss(noise(1, 1, length), noise(1, 1, length, seed=1)))

    def test_waveforms_of_different_shapes_raise(self, loss):
        with pytest.raises(ValueError, match="same shape"):
            loss(noise(1, 1, 3000), noise(1, 2, 3000))


@pytest.mark.parametrize("normalized", [True, False])
def test_mel_spectrogram_equals_torchaudio(normalized):
    n_fft, hop = 512, 128
    wav = noise(2, 1, n_fft + 9 * hop)
    padded = torch.nn.functional.pad(wav, ((n_fft - hop) // 2,) * 2, mode="reflect")
    reference = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=n_fft, hop_length=hop, n_mels=40, f_min=30, center=False, normalized=normalized
    )
    mel = MelSpectrogram(RATE, n_fft, hop, n_mels=40, f_min=30, normalized=normalized)
    torch.testing.assert_close(mel(wav), reference(padded))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_si_snr_is_the_signal_to_noise_ratio_at_any_scale(snr_db):
    target = 10 * noise(1, 1, 8 * RATE)
    estimate = target + 10 ** (1 - snr_db / 20) * noise(1, 1, 8 * RATE, seed=1)
    for scale in (1.0, 3.0, 10.0):
        loss = SISNR(RATE, segment=2)(scale * estimate, target)
        assert float(loss) == pytest.approx(-snr_db, abs=0.2)


def test_si_snr_of_silence_is_finite():
    silence = torch.zeros(1, 1, 100, requires_grad=True)
    loss = SISNR(RATE, segment=1)(silence, silence.detach())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0)
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_built_from_the_shipped_configuration(name):
    cfg = OmegaConf.create({key: {} for key in LOSSES})
    for key in ("mel", "msspec"):
        cfg[key] = {"sample_rate": RATE}
    wav = noise(1, 1, 4000)
    assert math.isfinite(get_loss(name, cfg)(wav, noise(1, 1, 4000, seed=1)))


@pytest.mark.parametrize(
    ("name", "node", "key"),
    [
        ("mystery", {}, "losses.mystery"),
        ("mel", {"sample_rate": RATE, "n_mel": 3}, "mel.n_mel"),
        ("mel", {"sample_rate": RATE, "f_min": 9000}, "f_min"),
        ("msspec", {"sample_rate": RATE, "range_start": 9, "range_end": 9}, "range_start"),
        ("mrstft", {"n_ffts": [512], "hop_lengths": [1, 2], "win_lengths": [512]}, "hop_lengths"),
        ("sisnr", {"overlap": 1.0}, "overlap"),
    ],
)
def test_invalid_setting_raises(name, node, key):
    with pytest.raises(ConfigError, match=key):
        get_loss(name, OmegaConf.create({name: node}))
