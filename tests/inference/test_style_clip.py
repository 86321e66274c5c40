"""Style clips in files: position and reading of the excerpt."""

import pytest
import soundfile
import torch

from audiocraft.data.audio import audio_read, audio_write
from audiocraft.data.audio_utils import convert_audio
from audiocraft.errors import AudioError
from audiocraft.inference.style_clip import excerpt_start, load_excerpt


def test_reading_the_excerpt_equals_slicing_the_whole_clip(clip):
    wav, rate = audio_read(clip)
    whole = convert_audio(wav, rate, 32000, 1)
    for start in (0.0, 0.7, 1.5):
        part = load_excerpt(clip, 1.5, start, 32000, 1)
        begin, first = round(part.start * 32000), round(start * 32000)
        excerpt = part.wav[:, begin : begin + 48000]
        torch.testing.assert_close(excerpt, whole[:, first : first + 48000], atol=2e-3, rtol=0)


def test_a_drawn_start_depends_on_the_seed_and_fits(clip):
    starts = [excerpt_start(clip, 1.5, None, seed) for seed in range(20)]
    assert starts == [excerpt_start(clip, 1.5, None, seed) for seed in range(20)]
    assert len(set(starts)) > 10
    assert all(0 <= start <= 1.5 for start in starts)


def test_a_clip_of_the_length_of_the_excerpt_is_accepted(clip):
    assert excerpt_start(clip, 3.0, None, 1) == 0
    part = load_excerpt(clip, 3.0, 0.0, 32000, 1)
    assert part.wav.shape[-1] - round(part.start * 32000) >= 96000


@pytest.mark.parametrize(
    ("length", "start", "message"),
    [
        (4.5, None, r"clip.wav: .*excerpt of 4.5 s .* clip of 3 s"),
        (1.5, 2.0, r"excerpt_start=2 .* between 0 and 1.5 s"),
        (1.5, -1.0, r"excerpt_start=-1"),
    ],
)
def test_an_excerpt_that_does_not_fit_is_refused_with_both_lengths(clip, length, start, message):
    with pytest.raises(AudioError, match=message):
        excerpt_start(clip, length, start, 0)


def test_a_silent_excerpt_is_refused(tmp_path):
    path = str(audio_write(tmp_path / "silence", torch.zeros(1, 64000), 16000))
    with pytest.raises(AudioError, match=r"silent from 0.50 to 2.00 s"):
        load_excerpt(path, 1.5, 0.5, 16000, 1)


def test_samples_that_are_not_finite_are_refused(tmp_path):
    path = str(tmp_path / "nan.wav")
    wav = torch.full((32000,), 0.1)
    wav[8000] = float("nan")
    soundfile.write(path, wav.numpy(), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan.wav"):
        load_excerpt(path, 1.5, 0.0, 16000, 1)


def test_a_clip_of_1_khz_and_8_bits_is_read(tmp_path):
    path = str(tmp_path / "old.wav")
    soundfile.write(path, torch.sin(torch.arange(2000) / 5).numpy(), 1000, subtype="PCM_U8")
    assert load_excerpt(path, 1.5, 0.2, 32000, 1).wav.abs().max() > 0.1
