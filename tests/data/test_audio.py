import io
import os
import shutil
import struct
import typing as tp
import zipfile
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch

from audiocraft.data.audio import audio_info, audio_read, audio_write
from audiocraft.data.io.encoders import FORMATS, encode
from audiocraft.errors import AudioError

from .conftest import RATE, tone, write_tone
from .corpus import encoded, headers_twice

LOSSLESS = ("wav", "flac", "aiff")
SUPPORTED = {"m4a": 44100, "mp3": 44100, "opus": 48000}


def sweep(seconds: float, rate: int, channels: int = 2) -> torch.Tensor:
    """A frequency sweep, `[C, T]`: any shift in time changes it."""
    time = torch.arange(int(seconds * rate)) / rate
    phase = 2 * torch.pi * (200 * time + 30 * time**2)
    return torch.stack([0.5 * torch.sin(phase * (1 + c / 2)) for c in range(channels)])


def write_sweep(folder, kind: str, seconds: float = 4.0, channels: int = 2):
    """Write a sweep; returns its path, the waveform and the sample rate."""
    rate = SUPPORTED.get(kind, 32000)
    wav = sweep(seconds, rate, channels)
    return audio_write(folder / "sweep", wav, rate, format=kind, strategy="clip"), wav, rate


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_written_audio_is_read_back(tmp_path, kind, channels):
    path, wav, rate = write_sweep(tmp_path, kind, channels=channels)
    read, read_rate = audio_read(path)
    assert path.name == f"sweep.{kind}"
    assert (read_rate, read.shape) == (rate, wav.shape)
    inside = slice(rate // 2, -rate // 2)  # codecs need some frames to adapt
    tolerance = 2**-15 if kind in LOSSLESS else 0.1
    torch.testing.assert_close(read[:, inside], wav[:, inside], atol=tolerance, rtol=0)
    info = audio_info(path)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration == pytest.approx(4.0, abs=0.15)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("seek_time", "duration"), [(0.0, 1.0), (0.013, 0.5), (2.71, -1.0)])
def test_a_segment_equals_the_slice_of_the_whole_file(tmp_path, kind, seek_time, duration):
    path, _, rate = write_sweep(tmp_path, kind)
    whole, _ = audio_read(path)
    part, _ = audio_read(path, seek_time, duration)
    start = int(seek_time * rate + 1e-6)
    end = None if duration < 0 else start + int(duration * rate)
    torch.testing.assert_close(part, whole[:, start:end], atol=1e-6, rtol=0)


def variable_mp3(folder, with_count: bool = True):
    """Write an MP3 of variable bit rate, with loud and silent sections."""
    wav = sweep(20.0, 44100).t().numpy() * (np.arange(20 * 44100) % 88200 < 40000)[:, None]
    path = folder / "variable.mp3"
    soundfile.write(path, wav, 44100, bitrate_mode="VARIABLE", compression_level=0.3)
    if not with_count:
        content = path.read_bytes()
        path.write_bytes(content[content.index(content[:2], 4) :])  # without its header frame
    return path


@pytest.mark.parametrize("with_count", [True, False])
def test_seeking_in_mp3_of_variable_bit_rate_is_exact(tmp_path, with_count):
    path = variable_mp3(tmp_path, with_count)
    assert audio_info(path).duration == pytest.approx(20.0, abs=0.05)
    whole, rate = audio_read(path)
    assert whole.shape[-1] / rate == pytest.approx(20.0, abs=0.05)
    for seek_time in (0.9, 3.21, 7.77, 14.0, 18.5):
        part, _ = audio_read(path, seek_time, 1.0)
        start = int(seek_time * rate + 1e-6)
        torch.testing.assert_close(part, whole[:, start : start + rate], atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FORMATS, "variable mp3"])
def test_segments_of_long_files_equal_slices(tmp_path, kind):
    seconds, rate = 600, 24000
    phase = 2 * np.pi * np.cumsum(np.linspace(50, 2000, seconds * rate)) / rate  # rising pitch
    wav = torch.from_numpy(0.5 * np.sin(phase) * np.sin(phase / 1999)).float()[None]
    if kind == "variable mp3":
        path = tmp_path / "long.mp3"
        soundfile.write(path, wav.t(), rate, bitrate_mode="VARIABLE", compression_level=0.5)
    else:
        path = audio_write(tmp_path / "long", wav, rate, kind, mp3_rate=64, strategy="clip")
    whole, rate = audio_read(path)
    assert whole.shape[-1] / rate == pytest.approx(seconds, abs=0.05)
    for seek_time in (0.7, 123.456, 299.999, 571.3, 599.5):
        part, _ = audio_read(path, seek_time, 1.0)
        start = int(seek_time * rate + 1e-6)
        torch.testing.assert_close(part, whole[:, start : start + rate], atol=1e-6, rtol=0)


def test_seeking_in_vorbis_with_wrong_timestamps_is_exact(tmp_path):
    clicks = torch.randn(1, 8 * 44100) * (
        torch.arange(8 * 44100) % 9000 < 90
    )  # long and short blocks
    path = audio_write(tmp_path / "a", clicks, 44100, "ogg", strategy="clip")
    whole, rate = audio_read(path)
    for seek_time in torch.arange(0.6, 7.9, 0.217).tolist():
        part, _ = audio_read(path, seek_time, 0.1)
        start = int(seek_time * rate + 1e-6)
        torch.testing.assert_close(part, whole[:, start : start + 4410], atol=1e-6, rtol=0)


def test_the_duration_of_opus_is_that_of_its_samples(tmp_path):
    path, _, _ = write_sweep(tmp_path, "opus")
    assert audio_info(path).duration == audio_read(path)[0].shape[-1] / 48000 == 4.0


RATES = {
    "wav": (8000, 192000),
    "flac": (11025, 96000),
    "aiff": (22050, 88200),
    "ogg": (16000, 48000),
    "mp3": (16000, 48000),
    "m4a": (12000, 96000),
    "opus": (8000, 44100),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_sample_rate_and_channels_match_the_file(tmp_path, kind, channels):
    if kind == "mp3" and channels > 2:
        pytest.skip("mp3 has two channels at most")
    for rate in RATES[kind]:
        path = audio_write(tmp_path / "a", sweep(0.5, rate, channels), rate, kind)
        wav, read_rate = audio_read(path, 0.1, 0.2)
        expected = 48000 if kind == "opus" else rate
        assert audio_info(path)[::2] == (expected, channels)
        assert (read_rate, wav.shape) == (expected, (channels, expected // 5))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_object_is_read_from_its_beginning(tmp_path, kind):
    path, _, _ = write_sweep(tmp_path, kind, seconds=1.0)
    with open(path, "rb") as file:
        file.seek(10)
        assert audio_info(file) == audio_info(path)
        assert torch.equal(audio_read(file, 0.25, 0.5)[0], audio_read(path, 0.25, 0.5)[0])


def test_padding_fills_up_to_the_duration(tmp_path):
    path = write_tone(tmp_path / "a.wav", 1.0).path
    assert audio_read(path, 0.5, 2.0)[0].shape == (1, RATE // 2)
    padded, _ = audio_read(path, 0.5, 2.0, pad=True)
    assert padded.shape == (1, 2 * RATE)
    assert not padded[:, RATE // 2 :].any()


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archive_members_and_file_objects_are_read(tmp_path, kind, compression):
    path, _, rate = write_sweep(tmp_path, kind, seconds=1.0)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", compression) as archive:
        archive.write(path, f"album/1.{kind}")
    expected = audio_read(path, 0.25, 0.5)
    for source in (f"{tmp_path}/all.zip:album/1.{kind}", io.BytesIO(path.read_bytes())):
        wav, source_rate = audio_read(source, 0.25, 0.5)
        assert torch.equal(wav, expected[0])
        assert source_rate == rate
        if isinstance(source, str):
            assert audio_info(source) == audio_info(path)


def test_the_extension_does_not_matter(tmp_path):
    path, _, _ = write_sweep(tmp_path, "m4a", seconds=1.0)
    shutil.move(path, tmp_path / "lies.wav")
    assert audio_info(tmp_path / "lies.wav").sample_rate == 44100


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.wav")
    shutil.copy(write_tone(tmp_path / "a.wav").path, name)
    assert audio_info(name).duration == 2.0
    assert audio_read(name)[0].shape == (1, 2 * RATE)


DAMAGED: dict[str, tp.Callable[[bytes, bytes], bytes]] = {
    "nothing.wav": lambda wav, mp3: b"",
    "zeros.mp3": lambda wav, mp3: bytes(5000),
    "text.mp3": lambda wav, mp3: b"This is no music at all. " * 300,
    "head.wav": lambda wav, mp3: wav[:30],
    "no_rate.wav": lambda wav, mp3: wav[:24] + struct.pack("<I", 0) + wav[28:],
    "no_samples.wav": lambda wav, mp3: wav[:40] + struct.pack("<I", 0),
    "head.mp3": lambda wav, mp3: mp3[:30],
    "noise.raw": lambda wav, mp3: bytes(range(256)) * 20,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_the_error_names_a_damaged_file(tmp_path, name):
    good = [Path(write_tone(tmp_path / f"good.{kind}", rate=44100).path) for kind in ("wav", "mp3")]
    (tmp_path / name).write_bytes(DAMAGED[name](*(path.read_bytes() for path in good)))
    for read in (audio_info, audio_read, lambda path: audio_read(path, 0.1, 0.1)):
        with pytest.raises(AudioError, match=name):
            read(tmp_path / name)


def test_a_false_length_in_a_header_allocates_no_memory(tmp_path):
    write_tone(tmp_path / "a.flac", rate=44100)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # 2**36 - 1 samples, 256 GB of floats
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    assert audio_read(tmp_path / "a.flac", 0.5, 1.0)[0].shape == (1, 44100)
    with pytest.raises(AudioError, match=r"a\.flac"):
        audio_read(tmp_path / "a.flac", 1000.0, 1.0)


@pytest.mark.parametrize("name", ["missing.wav", "missing.zip:a.wav", "there.zip:b.wav"])
def test_the_error_names_a_missing_file(tmp_path, name):
    zipfile.ZipFile(tmp_path / "there.zip", "w").close()
    with pytest.raises(AudioError, match=name):
        audio_read(tmp_path / name)


def test_archive_paths_do_not_escape_the_archive(tmp_path):
    write_tone(tmp_path / "secret.wav")
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    with pytest.raises(AudioError, match="no member"):
        audio_read(f"{tmp_path}/a.zip:../secret.wav")


def test_reading_past_the_end_is_reported(tmp_path):
    path = write_tone(tmp_path / "a.wav", 1.0).path
    with pytest.raises(AudioError, match=r"a\.wav ends before seek_time, 2\.000"):
        audio_read(path, 2.0, 1.0)
    with pytest.raises(ValueError, match="seek_time"):
        audio_read(path, -1.0)


def test_an_ogg_refused_by_ffmpeg_is_read(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(headers_twice(encoded("ogg")))
    with pytest.raises(av.FFmpegError):
        av.open(path)
    plain, rate = audio_read(io.BytesIO(encoded("ogg")))
    wav, _ = audio_read(path)
    torch.testing.assert_close(wav, plain)
    assert audio_info(path) == (rate, wav.shape[1] / rate, 2)
    part, _ = audio_read(path, 0.5, 0.25)
    assert torch.equal(part, wav[:, rate // 2 : rate * 3 // 4])


# Writing.


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_the_bit_rate_is_the_requested_one(tmp_path, kind):
    wav = torch.randn(2, 4 * 44100) * 0.1
    for rate in (96, 160, 224):
        path = audio_write(
            tmp_path / "a", wav, 44100, kind, mp3_rate=rate, ogg_rate=rate, strategy="clip"
        )
        assert path.stat().st_size * 8 / 4000 == pytest.approx(rate, rel=0.1)


@pytest.mark.parametrize("kind", ["ogg", "m4a"])  # libsndfile crashes on long blocks of ogg
def test_long_stereo_is_written(tmp_path, kind):
    path, wav, rate = write_sweep(tmp_path, kind, seconds=61.0)
    assert audio_info(path).duration == pytest.approx(wav.shape[-1] / rate, abs=0.15)


def test_opus_stores_48_khz(tmp_path):
    path = audio_write(tmp_path / "a", sweep(1.0, 32000), 32000, "opus")
    wav, rate = audio_read(path)
    assert (rate, wav.shape) == (48000, (2, 48000))


def test_a_failed_write_keeps_only_the_previous_file(tmp_path):
    path = audio_write(tmp_path / "a", sweep(1.0, 44100), 44100, "mp3")
    before = path.read_bytes()
    with pytest.raises(AudioError, match="6 channels at 44100 Hz"):
        audio_write(tmp_path / "a", sweep(1.0, 44100, 6), 44100, "mp3")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("compressor", [False, True])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_normalized_loudness_agrees_with_another_meter(tmp_path, kind, compressor):
    time = torch.arange(8 * 44100) / 44100
    music = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (110, 445)])
    music = music * (0.2 + 0.8 * torch.sin(2 * torch.pi * 0.4 * time).abs()) * 0.02
    path = audio_write(
        tmp_path / "a", music, 44100, kind, strategy="loudness", loudness_compressor=compressor
    )
    wav, rate = audio_read(path)
    loudness = pyloudnorm.Meter(rate).integrated_loudness(wav.t().numpy())
    bent = 1.0 if compressor else 0.05  # reduction of the peaks by the compressor
    assert -14 - bent < loudness < -13.95


@pytest.mark.parametrize("kind", FORMATS)
def test_files_are_replaced_atomically(tmp_path, kind, monkeypatch):
    path = audio_write(tmp_path / "a", sweep(1.0, 48000), 48000, kind)
    before = path.read_bytes()

    def die(source, target):
        assert path.read_bytes() == before
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        audio_write(tmp_path / "a", sweep(2.0, 48000), 48000, kind)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_reported(kind):
    with pytest.raises(OSError, match="No space left"):
        encode(Path("/dev/full"), torch.from_numpy(tone(0.5)).t(), RATE, kind)


def test_suffixes_and_folders_of_paths_follow_the_arguments(tmp_path):
    wav = torch.zeros(100)
    assert audio_write(tmp_path / "v1.5", wav, RATE) == tmp_path / "v1.5.wav"
    assert audio_write(tmp_path / "x/y", wav, RATE) == tmp_path / "x/y.wav"
    assert audio_write(tmp_path / "z.tmp", wav, RATE, add_suffix=False) == tmp_path / "z.tmp"
    with pytest.raises(AudioError, match="make_parent_dir"):
        audio_write(tmp_path / "none/y", wav, RATE, make_parent_dir=False)


@pytest.mark.parametrize(
    "wav", [torch.zeros(2, 0), torch.zeros(1, 2, 3), torch.full((1, 9), torch.nan)]
)
def test_invalid_waveforms_are_not_written(tmp_path, wav):
    with pytest.raises(AudioError, match="song"):
        audio_write(tmp_path / "song", wav, RATE)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_lists_the_supported_ones(tmp_path):
    with pytest.raises(AudioError, match="wav, flac"):
        audio_write(tmp_path / "a", torch.zeros(1, 10), RATE, format="wma")


def test_integers_are_read_as_pcm(tmp_path):
    pcm = torch.tensor([[0, 100, -200, 32767]], dtype=torch.int16)
    path = audio_write(tmp_path / "a", pcm, RATE, strategy="clip", peak_clip_headroom_db=0)
    assert soundfile.read(path, dtype="int16")[0].tolist() == pcm[0].tolist()


def test_reading_agrees_with_soundfile(tmp_path):
    path = write_tone(tmp_path / "a.wav", channels=2).path
    np.testing.assert_allclose(audio_read(path)[0].t(), tone(2.0, channels=2), atol=1e-4)
