import json
import math

import pytest
import torch

from audiocraft.cli import fit_tokenizer as command
from audiocraft.data.audio import audio_read, audio_write
from audiocraft.data.audio_utils import convert_audio
from audiocraft.data.manifest import find_audio_files, save_manifest
from audiocraft.environment import bundled_dir
from audiocraft.errors import ConfigError
from audiocraft.metrics.codec_quality import chroma_agreement, log_mel_distance
from audiocraft.models.codecs.spectral import SpectralTokenizer
from audiocraft.models.loaders import load_compression_model
from audiocraft.solvers import fit_spectral
from audiocraft.solvers.fit_spectral import FitOptions, fit_tokenizer, with_random_codebooks

RATE = 8000
TINY = {
    "sample_rate": RATE,
    "n_fft": 512,
    "hop_length": 160,
    "n_mels": 64,
    "dimension": 16,
    "n_q": 3,
    "bins": 32,
    "phase_iterations": 8,
}
QUICK = FitOptions(iterations=5, rounds=2)
BUNDLED = "//bundled/mel_rvq_16khz"


def notes(num, seconds=1.0, sample_rate=RATE, seed=0):
    """Decaying harmonic tones of different pitches, `[num, 1, T]`."""
    rng = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * sample_rate)) / sample_rate
    pitches = 110 * 2 ** (torch.randint(36, (num, 1, 1), generator=rng) / 12)
    overtones = [torch.sin(2 * math.pi * k * pitches * time) / k for k in (1, 2, 3)]
    return 0.2 * torch.stack(overtones).sum(0) * torch.exp(-2 * time)


@pytest.fixture(scope="module")
def tiny():
    tokenizer = SpectralTokenizer(**TINY).eval()
    fit_tokenizer(tokenizer, [notes(64)], QUICK)
    return tokenizer


@pytest.fixture(scope="module")
def bundled():
    return load_compression_model(BUNDLED)


@pytest.mark.parametrize("num_samples", [1, 159, 160, 161, 1000])
def test_any_length_is_encoded_and_decoded_to_whole_frames(tiny, num_samples):
    codes, scale = tiny.encode(notes(2)[..., :num_samples])
    num_frames = math.ceil(num_samples / 160)
    assert codes.shape == (2, 3, num_frames)
    assert codes.dtype == torch.int64
    assert scale is None
    assert tiny.decode(codes).shape == (2, 1, num_frames * 160)
    assert tiny(notes(2)[..., :num_samples]).x.shape == (2, 1, num_samples)


def test_zero_frames_decode_to_zero_samples(tiny):
    assert tiny.decode(torch.zeros(2, 3, 0, dtype=torch.long)).shape == (2, 1, 0)


def test_decoding_does_not_depend_on_batch_size_or_seed(tiny):
    codes, _ = tiny.encode(notes(3))
    together = tiny.decode(codes)
    torch.manual_seed(99)
    for i in range(3):
        assert torch.equal(tiny.decode(codes[i, None])[0], together[i])


def test_decode_equals_decode_latent_then_decoder(tiny):
    codes, _ = tiny.encode(notes(1))
    latent = tiny.decode_latent(codes)
    assert latent.shape == (1, 16, codes.shape[-1])
    assert torch.equal(tiny.synthesize(latent), tiny.decode(codes))


def test_fewer_codebooks_return_the_first_codes(tiny):
    codes, _ = tiny.encode(notes(2))
    tiny.set_num_codebooks(2)
    try:
        fewer, _ = tiny.encode(notes(2))
        assert tiny.num_codebooks == 2
        assert tiny.total_codebooks == 3
    finally:
        tiny.set_num_codebooks(3)
    assert torch.equal(fewer, codes[:, :2])
    with pytest.raises(ValueError, match="1 to 3"):
        tiny.set_num_codebooks(4)


def test_unquantized_frames_reconstruct_the_waveform(tiny):
    wav = notes(4)
    rebuilt = torch.stack([tiny.render(frames) for frames in tiny.loudness(wav)])[:, None]
    assert chroma_agreement(wav, rebuilt[..., : wav.shape[-1]], RATE).mean() > 0.9


def test_fitted_codebooks_reconstruct_better_than_random_ones(tiny):
    wav = notes(4, seed=5)
    distances = [
        log_mel_distance(wav, codec(wav).x, RATE).mean()
        for codec in (tiny, with_random_codebooks(tiny))
    ]
    assert distances[0] < 0.7 * distances[1]


def test_fitting_is_deterministic(tiny):
    again = SpectralTokenizer(**TINY).eval()
    fit_tokenizer(again, [notes(64)], QUICK)
    for key, value in tiny.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_save_and_load_round_trip(tiny, tmp_path):
    fit_spectral.save_tokenizer(tiny, tmp_path)
    loaded = load_compression_model(str(tmp_path))
    codes, _ = tiny.encode(notes(2))
    assert torch.equal(loaded.encode(notes(2))[0], codes)
    assert torch.equal(loaded.decode(codes), tiny.decode(codes))


def test_stereo_and_empty_audio_raise(tiny):
    for shape in [(1, 2, 100), (1, 1, 0), (1, 100)]:
        with pytest.raises(ValueError, match=r"\[B, 1, T\]"):
            tiny.encode(torch.zeros(shape))


def test_training_updates_the_codebooks():
    torch.manual_seed(0)
    tokenizer = SpectralTokenizer(**TINY).train()
    tokenizer(notes(8))
    before = tokenizer.quantizer.codebooks[0].embed.clone()
    tokenizer(notes(8, seed=1))
    assert not torch.equal(tokenizer.quantizer.codebooks[0].embed, before)


def test_command_fits_saves_and_evaluates(tmp_path, capsys):
    for i, wav in enumerate(notes(4, seconds=3.0, sample_rate=16000)):
        audio_write(tmp_path / "audio" / str(i), wav, 16000)
    save_manifest(tmp_path / "data.jsonl", find_audio_files(tmp_path / "audio"))
    out = tmp_path / "out"
    music = str(tmp_path)
    recipe = ["--hours=0.01", "--excerpt=2", "--iterations=1", "--rounds=1", "--measured=2"]
    command.main([music, str(out), *recipe, "--measure", music])

    report = json.loads((out / "measured.json").read_text())
    rows = report["measured"][music]
    distance = {name: row["log_mel_distance"] for name, row in rows.items()}
    assert distance["not quantized"] < distance["4 codebooks"] < distance["random codebooks"]
    assert load_compression_model(str(out)).cardinality == 1024
    assert str(out) in capsys.readouterr().out


def test_options_without_training_audio_raise():
    with pytest.raises(ConfigError, match="hours must be above 0 but is 0"):
        FitOptions(hours=0)


def test_too_little_training_audio_raises():
    with pytest.raises(ConfigError, match="3 frames are too few for codebooks of 32"):
        fit_tokenizer(SpectralTokenizer(**TINY), [notes(1)[..., :480]], QUICK)


def test_measure_only_without_fitted_tokenizer_raises(tmp_path):
    with pytest.raises(ConfigError, match="--measure-only"):
        command.main(["music", str(tmp_path), "--measure-only"])


def test_bundled_tokenizer_matches_the_tiny_configuration(bundled):
    assert bundled.sample_rate == 16000
    assert bundled.frame_rate == 50
    assert bundled.channels == 1
    assert bundled.num_codebooks == bundled.total_codebooks == 4
    assert bundled.cardinality == 1024
    folder = bundled_dir() / "mel_rvq_16khz"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4e6


def test_bundled_tokenizer_preserves_pitch_and_level(bundled):
    wav = notes(6, seconds=2.0, sample_rate=16000, seed=3)
    rebuilt = bundled(wav).x
    assert chroma_agreement(wav, rebuilt, 16000).mean() > 0.8
    assert 0.5 < float(rebuilt.square().mean() / wav.square().mean()) < 2


def test_bundled_tokenizer_uses_most_codebook_entries(bundled):
    clips = sorted((bundled_dir().parent / "dataset" / "example").glob("*.ogg"))[::6]
    codes = []
    for clip in clips:
        wav, rate = audio_read(clip, duration=5)
        codes += [bundled.encode(convert_audio(wav, rate, 16000, 1)[None])[0]]
    assert all(len(book.unique()) > 200 for book in torch.cat(codes, dim=2)[0])
