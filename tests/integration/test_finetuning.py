"""Fine-tuning of all weights or adapters lowers the loss on new music."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from audiocraft.models import MusicGen

from .conftest import QUICK, Run, command, run_training

BUNDLED = "//bundled/musicgen_style_tiny"
TUNED = (
    *("solver=musicgen/musicgen_style_tiny", "device=cpu", "num_threads=1"),
    *(f"continue_from={BUNDLED}", "continue_from_config=inherit", "transformer_lm.emb_lr=null"),
    *("optim.epochs=1", "optim.updates_per_epoch=40", "schedule.cosine.warmup=5"),
    *("dataset.batch_size=4", "dataset.num_workers=0", "dataset.valid.num_samples=4"),
    *("generate.every=null", "evaluate.every=null"),
)
RATE = 16_000  # Hz
GAIN = 0.25  # nat per token, on held-out music


def chiptune(rng: np.random.Generator, seconds: float = 12.0) -> np.ndarray:
    """Square waves, arpeggio and bass: unlike the training data of the bundled model."""
    beat = int(RATE * rng.uniform(0.1, 0.2))
    times = np.arange(beat) / RATE
    root = rng.uniform(110, 220)  # Hz
    bass = np.sign(np.sin(np.pi * root * times))
    notes = []
    for _ in range(int(seconds * RATE / beat)):
        pitch = root * 2 ** (rng.choice([0, 3, 5, 7, 10, 12, 15]) / 12)
        lead = np.sign(np.sin(4 * np.pi * pitch * times))
        notes.append((0.2 * lead + 0.15 * bass) * np.exp(-4 * times))
    return np.concatenate(notes)


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> list[str]:
    """A dataset prepared from a folder of music, with held-out tracks."""
    place = tmp_path_factory.mktemp("music")
    (place / "folder").mkdir()
    for number in range(20):
        stem = place / "folder" / f"chip{number:02d}"
        soundfile.write(stem.with_suffix(".wav"), chiptune(np.random.default_rng(number)), RATE)
        stem.with_suffix(".json").write_text('{"description": "a chiptune of square waves"}')
    prepare = ("prepare", str(place / "folder"), str(place / "set"), "--by", "piece")
    done = command("-m", "audiocraft", *prepare, "--valid", "0.2", outputs=place / "outputs")
    assert done.returncode == 0, done.output
    return [f"datasource.{split}={place}/set/egs/{split}" for split in ("train", "valid")]


@pytest.fixture(scope="module")
def before(music, tmp_path_factory) -> float:
    """Cross entropy of the bundled model on the new music."""
    job = (*TUNED, *music, "execute_only=valid")
    done = run_training(*job, outputs=tmp_path_factory.mktemp("before"))
    return float(done.output.split("valid, epoch 1: ce ")[1].split(" ")[0])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    """A small base model, trained for few updates."""
    return run_training(*QUICK, outputs=tmp_path_factory.mktemp("base"))


@pytest.mark.slow
def test_fine_tuning_lowers_the_loss_on_the_new_music(music, before, tmp_path):
    done = run_training(*TUNED, *music, "optim.lr=1e-3", outputs=tmp_path)
    assert done.history[-1]["valid"]["ce"] < before - GAIN


@pytest.mark.slow
def test_adapters_lower_the_loss_and_can_be_used_alone(music, before, tmp_path):
    job = (*TUNED, *music, "lora.use=true", "lora.rank=8", "optim.lr=1e-2")
    done = run_training(*job, outputs=tmp_path)
    assert done.history[-1]["valid"]["ce"] < before - GAIN
    adapter = done.folder / "adapter.safetensors"
    assert adapter.stat().st_size < (done.folder / "checkpoint.th").stat().st_size / 20
    merged = MusicGen.get_pretrained(str(done.folder / "checkpoint.th"), device="cpu")
    model = MusicGen.get_pretrained(BUNDLED, device="cpu")
    model.load_adapter(str(adapter))
    expected = merged.lm.state_dict()
    for key, value in model.lm.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=0)


def test_a_warm_start_configuration_is_kept_when_the_run_resumes(base, tmp_path):
    job = [o for o in QUICK if not o.startswith("transformer_lm.")]
    job += ["continue_from_config=inherit"]
    start = tmp_path / "start.th"
    shutil.copy(base.folder / "checkpoint.th", start)
    first = run_training(*job, f"continue_from={start}", outputs=tmp_path)
    assert "transformer_lm.dim" in first.output
    start.unlink()
    again = run_training(*job, f"continue_from={start}", outputs=tmp_path)
    assert "All 1 epochs are done" in again.output, again.output


def test_the_checkpoint_of_the_run_replaces_continue_from_with_a_warning(base, tmp_path):
    job = (*QUICK, f"continue_from={base.folder / 'checkpoint.th'}")
    assert "Weights loaded from" in run_training(*job, outputs=tmp_path).output
    again = run_training(*job, outputs=tmp_path)
    assert "continue_from is ignored" in again.output
    assert "Weights loaded from" not in again.output


MISTAKES = {
    "another size": (["transformer_lm.dim=64"], "another model"),
    "another number of text rows": (
        ["conditioners.description.lut.n_bins=100"],
        "conditioners.description",
    ),
    "other conditioners": (["conditioner=text2music"], "conditioner=style2music_tiny"),
    "codebooks of another tokenizer": (
        ["compression_model_n_q=2", "transformer_lm.n_q=2"],
        "codebooks_pattern.delay",
    ),
    "adapters without a base": (["lora.use=true", "continue_from=null"], "continue_from"),
    "a rank of zero": (["lora.use=true", "lora.rank=0"], "lora.rank"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mismatched_base_model_is_refused(mistake, base, refusal):
    overrides, named = MISTAKES[mistake]
    start = f"continue_from={base.folder / 'checkpoint.th'}"
    assert named in refusal(*QUICK, start, *overrides)


def test_a_file_with_only_the_best_weights_is_accepted(base, tmp_path):
    state = torch.load(base.folder / "checkpoint.th", weights_only=True)["best_state"]["model"]
    torch.save({"best_state": {"model": state}}, tmp_path / "made.th")
    done = run_training(*QUICK, f"continue_from={tmp_path / 'made.th'}", outputs=tmp_path)
    assert "Weights loaded from" in done.output
