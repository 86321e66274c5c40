"""Data benchmark: it runs and reports its measurements; no test depends on their values."""

import json
import time

import pytest
import soundfile
import torch

from benchmarks import data


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, 0.1 * torch.randn(32_000).numpy(), 16_000)
    return tmp_path


def test_every_format_and_the_tokens_are_measured(folder, tmp_path, capsys):
    report = tmp_path / "figures.json"
    quick = ["--segment", "0.5", "--rounds", "2", "--seconds", "0.02", "--workers", "0"]
    data.main(["--folder", str(folder), "--json", str(report), "--batch_size", "2", *quick])
    written = json.loads(report.read_text())
    names = ["wav", "flac", "tokens and text", "tokens, text and waveform"]
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in names)
    assert list(written["results"]) == names
    for name in names:
        result = written["results"][name]
        assert len(result["all_segments_per_second"]) == 2
        assert min(result["all_segments_per_second"]) <= result["segments_per_second"]
        assert result["cpu_ms_per_segment"] >= 0
    assert written["settings"]["segment"] == 0.5
    assert sorted(p.name for p in folder.iterdir()) == ["a.wav", "b.flac", "figures.json"]


def test_rate_counts_segments_read():
    class Slow:
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            time.sleep(0.01)
            return index

        def collater(self, samples):
            return samples, None

    contender = data.Contender(Slow(), batch_size=2, workers=0)
    contender.measure(0.1)
    assert 0 < contender.speeds[0] <= 100
    assert len(contender.cpu) == 1


@pytest.mark.slow
def test_empty_folder_is_filled_with_audio(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "FILES", 1)
    monkeypatch.setattr(data, "SECONDS", 3)
    data.fill(tmp_path)
    for name in data.FORMATS:
        info = soundfile.info(tmp_path / name / f"0.{name}")
        assert (info.samplerate, info.channels) == (44_100, 2)
        assert info.duration == pytest.approx(3, abs=0.1)
        assert (tmp_path / name / "0.json").is_file()
