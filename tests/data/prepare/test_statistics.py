from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch

from audiocraft.data.audio import audio_write
from audiocraft.data.io import decoders
from audiocraft.data.prepare.duplicates import find_duplicates
from audiocraft.data.prepare.statistics import (
    AudioStatistics,
    compute_audio_statistics,
    compute_file_statistics,
)
from audiocraft.data.resume_log import ResumeLog
from audiocraft.errors import AudioError

from ..conftest import RATE, tone, write_tone

EXAMPLE = Path(__file__).parents[3] / "dataset" / "example"


def statistics_of(path, samples: np.ndarray, rate: int = RATE, **options) -> AudioStatistics:
    """Statistics of samples `[T, C]`, written to a file."""
    soundfile.write(path, samples, rate, "FLOAT")
    return compute_audio_statistics(path, **options)


def melody(seed: int, seconds: float = 6.0, rate: int = 16000) -> torch.Tensor:
    """Notes of random pitch and length, `[1, T]`."""
    rng = torch.Generator().manual_seed(seed)
    notes = []
    while sum(len(note) for note in notes) < seconds * rate:
        length, pitch = 0.1 + 0.4 * torch.rand(2, generator=rng)
        time = torch.arange(int(length * rate)) / rate
        notes.append(torch.sin(2 * torch.pi * 4000 * pitch**2 * time) * torch.exp(-5 * time))
    return 0.5 * torch.cat(notes)[None, : int(seconds * rate)]


def test_format_and_duration_are_read(tmp_path):
    found = statistics_of(tmp_path / "a.wav", tone(2.5, channels=2))
    assert (found.kind, found.sample_rate, found.channels) == ("wav", RATE, 2)
    assert found.duration == 2.5
    assert found.peak == pytest.approx(0.4, abs=1e-3)
    assert (found.silence, found.clipped, found.finite, found.loudness) == (0, 0, True, None)


def test_silence_is_a_fraction_of_the_duration(tmp_path):
    samples = np.concatenate([tone(3.0), np.zeros((RATE, 1))])
    assert statistics_of(tmp_path / "a.wav", samples).silence == 0.25
    assert statistics_of(tmp_path / "b.wav", samples * 1e-4).silence == 1.0


def test_clipping_needs_consecutive_full_scale_samples(tmp_path):
    loud = np.clip(tone(1.0) * 10, -1, 1)
    flat = np.abs(loud) >= 0.999
    assert statistics_of(tmp_path / "a.wav", loud).clipped == pytest.approx(flat.mean(), rel=0.5)
    touching = tone(1.0) / np.abs(tone(1.0)).max()
    assert statistics_of(tmp_path / "b.wav", touching).clipped == 0


def test_samples_that_are_not_finite_are_reported(tmp_path):
    samples = tone(1.0)
    samples[7] = np.nan
    assert not statistics_of(tmp_path / "a.wav", samples).finite


@pytest.mark.parametrize("seconds", [0.001, 0.05])
def test_very_short_files_have_statistics_without_loudness(tmp_path, seconds):
    found = statistics_of(tmp_path / "a.wav", tone(seconds), with_loudness=True)
    assert found.duration == seconds
    assert found.loudness is None


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_loudness_agrees_with_another_meter(tmp_path, rate, channels):
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((5 * rate, channels)) * np.linspace(0, 0.2, 5 * rate)[:, None]
    found = statistics_of(tmp_path / "a.wav", samples, rate, with_loudness=True)
    expected = pyloudnorm.Meter(rate).integrated_loudness(samples)
    assert found.loudness == pytest.approx(expected, abs=0.02)


def test_statistics_do_not_depend_on_the_block_size(tmp_path, monkeypatch):
    path = audio_write(tmp_path / "a", melody(0).repeat(2, 1), 16000, "ogg")
    whole = compute_audio_statistics(path, with_loudness=True)
    monkeypatch.setattr(decoders, "BLOCK", 1000)
    blocks = compute_audio_statistics(path, with_loudness=True)
    assert (blocks.digest, blocks.fingerprint) == (whole.digest, whole.fingerprint)
    assert blocks.loudness == pytest.approx(whole.loudness)
    assert blocks.silence == whole.silence


def test_equal_samples_have_equal_digests_in_every_container(tmp_path):
    wav = melody(0)
    paths = [audio_write(tmp_path / "a", wav, 16000, kind) for kind in ("wav", "flac", "aiff")]
    assert len({compute_audio_statistics(path).digest for path in paths}) == 1
    other = audio_write(tmp_path / "b", melody(1), 16000)
    assert compute_audio_statistics(other).digest != compute_audio_statistics(paths[0]).digest


def test_statistics_of_several_files_are_computed_once_and_resumed(tmp_path):
    good = write_tone(tmp_path / "good.wav").path
    (tmp_path / "bad.wav").write_text("no music")
    paths = [good, str(tmp_path / "bad.wav"), good]
    with pytest.raises(KeyboardInterrupt), ResumeLog(tmp_path / "out") as resume_log:
        _interrupted(compute_file_statistics(paths, 0, resume_log=resume_log))
    with ResumeLog(tmp_path / "out") as resume_log:
        assert resume_log.find(good) is not None
        found = compute_file_statistics(paths, 0, resume_log=resume_log)
    assert found[good] == compute_audio_statistics(good)
    assert isinstance(found[paths[1]], AudioError)
    assert len(found) == 2


def _interrupted(_):
    raise KeyboardInterrupt


# Duplicates.


def test_copies_are_duplicates_and_other_music_is_not(tmp_path):
    wav = melody(0)
    copies = {
        "exact.flac": (wav, 16000),
        "lossy.mp3": (wav, 16000),
        "quiet.wav": (wav * 0.2, 16000),
        "slower_rate.ogg": (wav[:, ::2], 8000),
        "stereo.wav": (torch.cat([wav, wav * 0.9]), 16000),
    }
    files = [("first.wav", wav, 16000), *((name, *copy) for name, copy in copies.items())]
    files += [(f"other_{seed}.wav", melody(seed), 16000) for seed in range(1, 8)]
    found = [
        compute_audio_statistics(
            audio_write(
                tmp_path / name, w, rate, name[-4:].strip("."), strategy="clip", add_suffix=False
            )
        )
        for name, w, rate in files
    ]
    (duplicates,) = find_duplicates(found)
    assert [files[member][0] for member in duplicates.members] == ["first.wav", *copies]
    assert not duplicates.exact
    (duplicates,) = find_duplicates(found[:2])
    assert duplicates == ([0, 1], True)
    assert find_duplicates([found[0], None, *found[6:]]) == []


def test_bundled_clips_are_not_duplicates():
    found = [compute_audio_statistics(EXAMPLE / f"{name}_11.flac") for name in ("jazz", "waltz")]
    assert find_duplicates(found) == []
    assert find_duplicates([found[0], found[1], found[0]]) == [([0, 2], True)]


@pytest.mark.parametrize("sound", [tone(3.0), np.zeros((3 * RATE, 1))], ids=["tone", "silence"])
def test_static_sounds_have_no_fingerprint(tmp_path, sound):
    one = statistics_of(tmp_path / "a.wav", sound)
    other = statistics_of(tmp_path / "b.wav", sound[:-800])
    assert one.fingerprint == ""
    assert find_duplicates([one, other]) == []


def test_a_long_file_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "BLOCK", 2**12)
    path = write_tone(tmp_path / "a.wav", 60.0).path
    with decoders.opened(path) as (reader, _):
        lengths = [block.shape[1] for block in reader.blocks()]
    assert max(lengths) == 2**12
    assert sum(lengths) == 60 * RATE
