"""Fine-tuning: a model that goes on with other music comes to prefer it, whole or by adapters."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from .conftest import SMALL, Run, command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("options")]

BUNDLED = "//bundled/musicgen_style_tiny"
TUNED = (
    *("solver=musicgen/musicgen_style_tiny", "device=cpu", "num_threads=1"),
    *(f"continue_from={BUNDLED}", "continue_from_config=inherit", "transformer_lm.emb_lr=null"),
    *("optim.epochs=1", "optim.updates_per_epoch=40", "schedule.cosine.warmup=5"),
    *("dataset.batch_size=4", "dataset.num_workers=0", "dataset.valid.num_samples=4"),
    *("generate.every=null", "evaluate.every=null"),
)
RATE = 16_000  # Hz
FALL = 0.25  # nat per token that fine-tuning has to gain on new music that it did not see

MODEL = (*(o for o in SMALL if not o.startswith("optim.epochs")), "optim.epochs=1")


def chiptune(rng: np.random.Generator, seconds: float = 12.0) -> np.ndarray:
    """Square waves, an arpeggio over a bass note: nothing that the bundled model has heard."""
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
    """A folder of one's own music, made a data set; some pieces are held out."""
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


def run(*overrides: str, outputs) -> Run:
    done = command("-m", "dora", "run", *overrides, outputs=outputs)
    assert done.returncode == 0, done.output
    return done


@pytest.fixture(scope="module")
def before(music, tmp_path_factory) -> float:
    """Cross entropy of the bundled model on the new music."""
    done = run(*TUNED, *music, "execute_only=valid", outputs=tmp_path_factory.mktemp("before"))
    return float(done.output.split("valid, epoch 1: ce ")[1].split(" ")[0])


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    """A model that has learnt next to nothing, where it is only a start."""
    return run(*MODEL, outputs=tmp_path_factory.mktemp("base"))


def test_the_new_music_is_preferred_afterwards(music, before, tmp_path):
    done = run(*TUNED, *music, "optim.lr=1e-3", outputs=tmp_path)
    assert done.history[-1]["valid"]["ce"] < before - FALL


def test_adapters_are_enough_and_go_by_themselves(music, before, tmp_path):
    done = run(*TUNED, *music, "lora.use=true", "lora.rank=8", "optim.lr=1e-2", outputs=tmp_path)
    assert done.history[-1]["valid"]["ce"] < before - FALL
    adapter = done.folder / "adapter.safetensors"
    assert adapter.stat().st_size < (done.folder / "checkpoint.th").stat().st_size / 20
    script = f"""
from audiocraft.models import MusicGen
merged = MusicGen.get_pretrained({str(done.folder / "checkpoint.th")!r}, device="cpu")
model = MusicGen.get_pretrained({BUNDLED!r}, device="cpu")
model.load_adapter({str(adapter)!r})
ours, theirs = model.lm.state_dict(), merged.lm.state_dict()
print("WORST", max(float((ours[k] - theirs[k]).abs().max()) for k in ours))
"""
    worst = command("-c", script, outputs=done.outputs).output.split("WORST ")[1]
    assert float(worst) < 1e-5


def test_settings_can_be_inherited_and_are_remembered(base, tmp_path):
    """A run that knows nothing of the model's size takes it over, and goes on with it."""
    job = [o for o in MODEL if not o.startswith("transformer_lm.")]
    job += ["continue_from_config=inherit"]
    start = tmp_path / "start.th"
    shutil.copy(base.folder / "checkpoint.th", start)
    first = run(*job, f"continue_from={start}", outputs=tmp_path)
    assert "transformer_lm.dim is 32 there and 192 here" in first.output
    start.unlink()
    again = run(*job, f"continue_from={start}", outputs=tmp_path)
    assert "All 1 epochs are done" in again.output, again.output


def test_its_own_checkpoint_wins_and_the_log_says_so(base, tmp_path):
    job = (*MODEL, f"continue_from={base.folder / 'checkpoint.th'}")
    assert "Starting from the weights" in run(*job, outputs=tmp_path).output
    again = run(*job, outputs=tmp_path)
    assert "has its own checkpoint: continue_from is ignored" in again.output
    assert "Starting from the weights" not in again.output


MISTAKES = {
    "another size": (["transformer_lm.dim=64"], "another model"),
    "another number of text rows": (
        ["conditioners.description.lut.n_bins=100"],
        "conditioners.description",
    ),
    "other conditioners": (["conditioner=text2music"], "Set conditioner=style2music_tiny"),
    "codebooks of another tokenizer": (
        ["compression_model_n_q=2", "transformer_lm.n_q=2"],
        "codebooks_pattern.delay: delays is [0, 1, 2, 3]. Give 2",
    ),
    "adapters without a base": (["lora.use=true", "continue_from=null"], "say which"),
    "a rank of nothing": (["lora.use=true", "lora.rank=0"], "lora.rank"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(mistake, base, tmp_path):
    overrides, named = MISTAKES[mistake]
    done = command(
        *("-m", "dora", "run", *MODEL),
        *(f"continue_from={base.folder / 'checkpoint.th'}", *overrides),
        outputs=tmp_path,
    )
    assert done.returncode != 0
    assert named in done.output
    assert "Traceback" not in done.output, done.output


def test_a_hand_made_file_is_enough(base, tmp_path):
    state = torch.load(base.folder / "checkpoint.th", weights_only=True)["best_state"]["model"]
    torch.save({"best_state": {"model": state}}, tmp_path / "made.th")
    done = run(*MODEL, f"continue_from={tmp_path / 'made.th'}", outputs=tmp_path)
    assert "Starting from the weights" in done.output
