import json
import shutil

import pytest
import torch

from audiocraft.environment import bundled_dir
from audiocraft.models import MusicGen
from benchmarks import long_pieces

pytestmark = pytest.mark.slow


def test_chunk_boundaries_of_a_long_sample_are_like_any_other_frame():
    """The expected rank of a boundary among all frames is then 0.5."""
    model = MusicGen.get_pretrained(long_pieces.MODEL, device="cpu")
    model.set_generation_params(duration=70.0, extend_stride=model.max_duration / 2)
    wav, codes = model.generate(["calm piano"], return_tokens=True, seed=0)
    assert wav.shape[-1] == 70 * model.sample_rate
    assert wav.std() > 0.01
    found = long_pieces.measured_boundaries(model, wav[0])
    assert len(found["language model"].steps) >= 12
    assert len(found["tokenizer"].steps) == 2
    # Three standard deviations of the mean rank. The tokenizer has only two boundaries
    # and needs no statistics: its output equals that of one call.
    assert found["language model"].jump_ranks().mean() > 0.25
    assert found["language model"].step_ranks().mean() > 0.25
    with torch.inference_mode():
        at_once = model.compression_model.decode(codes)
    torch.testing.assert_close(wav, at_once, atol=1e-4, rtol=0)


def test_memory_grows_only_with_the_waveform(tmp_path, monkeypatch):
    """Few phase iterations: each takes the same memory."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")  # freed memory is returned at once
    folder = shutil.copytree(bundled_dir() / "mel_rvq_16khz", tmp_path / "codec")
    config = (folder / "config.yaml").read_text()
    assert "phase_iterations: 32" in config
    (folder / "config.yaml").write_text(config.replace("iterations: 32", "iterations: 2"))
    short, long = (torch.randint(1024, (1, 4, seconds * 50)) for seconds in (70, 190))
    needed = long_pieces.decoding_memory(str(folder), long, at_once=False)
    growth = needed - long_pieces.decoding_memory(str(folder), short, at_once=False)
    waveform_and_codes = 120 * (16000 * 4 + 50 * 4 * 8) / 2**20
    assert growth < waveform_and_codes + 5
    assert long_pieces.decoding_memory(str(folder), long, at_once=True) > 2 * needed


def test_benchmark_reports_every_measurement(tmp_path, capsys):
    long_pieces.main(["--minutes", "0.62", "--json", str(tmp_path / "figures.json")])
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["boundaries"]["tokenizer"]["count"] == 1
    assert report["boundaries"]["language model"]["count"] >= 3
    assert report["windows_mb"] > report["waveform_mb"] > 2
    printed = capsys.readouterr().out
    assert "chunk boundaries of the language model" in printed
    assert "MB in windows" in printed
