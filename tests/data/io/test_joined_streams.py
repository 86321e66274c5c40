"""Joined files and headers without a length: read completely, with a warning."""

import struct

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.data.audio import audio_blocks, audio_info, audio_read, audio_write
from audiocraft.data.io.joined_streams import find_streams
from audiocraft.data.prepare.statistics import compute_audio_statistics
from audiocraft.errors import AudioError

RATE = 16_000


def noise(seconds: float, seed: int, channels: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * RATE), generator=rng).clamp(-3, 3)


def join(folder, kind: str, *seconds: float, channels: int = 1) -> tuple:
    """A joined file, and the waveforms of its parts."""
    parts = []
    with open(folder / f"joined.{kind}", "wb") as joined:
        for seed, duration in enumerate(seconds):
            wav = noise(duration, seed, channels)
            path = audio_write(folder / f"{seed}", wav, RATE, kind, mp3_rate=64)
            parts.append(audio_read(path)[0])
            joined.write(path.read_bytes())
    return folder / f"joined.{kind}", torch.cat(parts, dim=1)


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3"])
def test_joined_files_are_read_whole(tmp_path, kind):
    path, expected = join(tmp_path, kind, 1.0, 0.5, 0.7)
    wav, rate = audio_read(path)
    assert torch.equal(wav, expected)
    assert audio_info(path).duration == pytest.approx(2.2)
    blocks = torch.cat(list(audio_blocks(path)), dim=1)
    assert torch.allclose(blocks, expected, atol=1e-4)
    for seek in (0.4, 0.9, 1.1, 1.6):
        part, _ = audio_read(path, seek, 0.5)
        start = int(seek * rate + 1e-6)
        assert torch.allclose(part, expected[:, start : start + rate // 2], atol=1e-4)
    assert "3 joined streams" in compute_audio_statistics(path).defect


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3"])
def test_a_single_file_is_not_detected_as_joined(tmp_path, kind):
    path, _ = join(tmp_path, kind, 1.0)
    with open(path, "rb") as file:
        assert find_streams(file) == []
    assert compute_audio_statistics(path).defect == ""


def test_tags_at_the_end_of_an_mp3_are_not_decoded(tmp_path):
    path, expected = join(tmp_path, "mp3", 1.0)
    with open(path, "ab") as file:
        file.write(b"TAG" + bytes(125))
    assert torch.equal(audio_read(path)[0], expected)


def test_joined_files_of_different_layout_are_refused(tmp_path):
    mono, _ = join(tmp_path, "ogg", 0.5)
    content = mono.read_bytes()
    stereo, _ = join(tmp_path, "ogg", 0.5, channels=2)
    stereo.write_bytes(content + stereo.read_bytes())
    with pytest.raises(AudioError, match="2 joined streams with different"):
        audio_read(stereo)


def without_length(folder, kind: str):
    """A file whose header states no length, as written to a pipe or by a crashed recorder."""
    path = folder / f"a.{kind.partition('_')[0]}"
    soundfile.write(path, noise(2.0, 0)[0].numpy(), RATE)
    content = bytearray(path.read_bytes())
    if kind == "flac":
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    else:
        length = 0 if kind == "wav_zero" else 0xFFFFFFFF
        data = content.index(b"data")
        content[data + 4 : data + 8] = content[4:8] = struct.pack("<I", length)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["flac", "wav_zero", "wav_maximum"])
def test_a_file_whose_header_states_no_length_is_read_whole(tmp_path, kind):
    expected = np.rint(noise(2.0, 0).numpy() * 2**15) / 2**15
    path = without_length(tmp_path, kind)
    assert audio_info(path).duration == 2.0
    wav, _ = audio_read(path)
    assert wav.shape == expected.shape
    assert np.abs(wav.numpy() - expected).max() < 1e-4
    for seek in (0.3, 1.7):
        part, _ = audio_read(path, seek, 0.2)
        start = int(seek * RATE + 1e-6)
        assert torch.equal(part, wav[:, start : start + part.shape[1]])
    if kind != "wav_maximum":
        assert "length" in compute_audio_statistics(path).defect


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32"])
def test_wav_codecs_without_seeking_are_read(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(2.0, 0)[0].numpy(), 8000, subtype=subtype)
    wav, rate = audio_read(path)
    assert wav.shape[1] >= 2 * RATE
    part, _ = audio_read(path, 1.0, 0.5)
    assert torch.equal(part, wav[:, rate : rate + rate // 2])


def test_an_empty_file_is_reported_as_empty(tmp_path, capfd):
    (tmp_path / "a.mp3").touch()
    with pytest.raises(AudioError, match="empty"):
        audio_read(tmp_path / "a.mp3")
    assert not capfd.readouterr().err


def test_messages_contain_file_names_unchanged(tmp_path):
    for name, content in (("🎵.ogg", b"OggS nonsense"), ("🎵.wav", b"RIFF nonsense")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError) as caught:
            audio_read(tmp_path / name)
        assert name in str(caught.value)
        assert "\\x" not in str(caught.value)
