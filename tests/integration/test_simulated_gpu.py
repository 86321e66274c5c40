"""Devices other than the CPU: tensors are on the right device, with equal results.

The device is simulated, see `tests/simulated_gpu.py`. The last tests use a real GPU, if present.
"""

import numpy as np
import pytest
import soundfile
import torch

from .conftest import ROOT, SMALL, Run, assert_resumed, command, interrupted

pytestmark = pytest.mark.slow

TINY = "solver=musicgen/musicgen_style_tiny"
# In a fork, where PyTorch's compiler is imported, views of simulated tensors raise.
ON_DEVICE = ("-m", "tests.simulated_gpu")
GENERATE = (
    *("audiocraft", "generate", "--text", "calm piano", "--style", "assets/electronic.mp3"),
    *("--duration", "0.4", "--seed", "1"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    job = ("train", *SMALL, "device=gpu")
    return command(*ON_DEVICE, *job, outputs=tmp_path_factory.mktemp("trained"), cold=True)


def test_an_operation_on_tensors_of_both_devices_raises(tmp_path):
    script = (
        "import torch; from tests.simulated_gpu import install\n"
        "with install():\n"
        "    there = torch.ones(2, device='gpu')\n"
        "    print(torch.equal((there + 1).cpu(), torch.full((2,), 2.0)), there + torch.ones(2))\n"
    )
    run = command("-c", script, outputs=tmp_path)
    assert "aten.add.Tensor meets tensors on gpu and, of shape [(2,)], on the CPU" in run.output


def test_training_history_equals_that_of_the_cpu(trained, finished):
    assert trained.returncode == 0, trained.output
    assert "on gpu" in trained.output
    assert len(trained.history) == len(finished.history)
    for ours, expected in zip(trained.history, finished.history):
        assert ours.keys() == expected.keys()
        for stage in ours:
            assert ours[stage] == pytest.approx(expected[stage], rel=1e-5)


def test_an_interrupted_run_resumes_on_the_device(trained, tmp_path):
    job = (*ON_DEVICE, "train", *SMALL, "device=gpu")
    assert interrupted(*job, outputs=tmp_path, cold=True).returncode == 130
    rest = command(*job, outputs=tmp_path, cold=True)
    assert_resumed(rest)
    assert rest.history == trained.history


def test_generated_music_equals_that_of_the_cpu(trained, tmp_path):
    waves = []
    for device in ("gpu", "cpu"):
        where = ("--model", f"//sig/{trained.folder.name}", "--device", device)
        files = ("--out", str(tmp_path / device))
        job = (*ON_DEVICE, *GENERATE, *where, *files)
        run = command(*job, outputs=trained.outputs, cold=True)
        assert run.returncode == 0, run.output
        (path,) = (tmp_path / device).glob("*.wav")
        waves.append(soundfile.read(path)[0])
    assert np.abs(waves[1]).max() > 0
    np.testing.assert_allclose(waves[0], waves[1], atol=2 / 2**15)


def test_the_doctor_finds_no_problem_on_the_device(tmp_path):
    run = command(*ON_DEVICE, "audiocraft", "doctor", TINY, "device=gpu", outputs=tmp_path)
    assert run.returncode == 0, run.output
    assert run.output.count("of its norm") == 3


def test_tokens_equal_those_of_the_cpu(tmp_path):
    manifest = tmp_path / "data.jsonl"
    with open(ROOT / "egs/example/valid/data.jsonl", encoding="utf-8") as file:
        manifest.write_text(file.readline())
    for device in ("gpu", "cpu"):
        job = ("audiocraft", "encode-dataset", str(manifest), str(tmp_path / device))
        how = ("--tokenizer", "//bundled/mel_rvq_16khz", "--device", device)
        run = command(*ON_DEVICE, *job, *how, outputs=tmp_path / "outputs")
        assert run.returncode == 0, run.output
    for file in ("SHA256SUMS", "tokens.json"):
        assert (tmp_path / "gpu" / file).read_text() == (tmp_path / "cpu" / file).read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_run_uses_the_gpu_and_its_losses_are_close_to_those_of_the_cpu(finished, tmp_path):
    job = [word for word in SMALL if not word.startswith("device=")]
    run = command("-m", "dora", "run", *job, outputs=tmp_path)
    assert run.returncode == 0, run.output
    assert "on cuda" in run.output
    for ours, expected in zip(run.history, finished.history, strict=True):
        for stage in ("train", "valid"):
            assert ours[stage]["ce"] == pytest.approx(expected[stage]["ce"], abs=0.05)
    for path in run.folder.glob("samples/**/*.wav"):
        wav = soundfile.read(path)[0]
        assert np.isfinite(wav).all()
        assert np.abs(wav).max() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_processes_share_the_gpus(tmp_path):
    job = ("audiocraft", "encode-dataset", "egs/example/train", str(tmp_path / "tokens"))
    how = ("--tokenizer", "//bundled/mel_rvq_16khz", "--workers", "2", "--shard-minutes", "5")
    run = command("-m", *job, *how, outputs=tmp_path / "outputs")
    assert run.returncode == 0, run.output
    verified = command("-m", *job, "--verify", outputs=tmp_path / "outputs")
    assert verified.returncode == 0, verified.output
