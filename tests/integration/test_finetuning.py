"""Fine-tuning: a model that goes on with other music comes to prefer it, whole or by adapters."""

import json
import shutil

import pytest
import torch

from audiocraft.data.audio import audio_read, audio_write

from .conftest import ROOT, SMALL, Run, command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("options")]

# Enough of a model to learn something within a minute.
MODEL = (
    *(o for o in SMALL if not o.startswith(("optim.", "transformer_lm.", "dataset.batch_size"))),
    "transformer_lm.dim=64",
    "transformer_lm.num_heads=2",
    "transformer_lm.num_layers=2",
    "dataset.batch_size=4",
    "dataset.valid.num_samples=4",
    "optim.epochs=1",
    "optim.updates_per_epoch=80",
    "schedule.cosine.warmup=20",
)
NEW = "techno"

# The tutorial: the bundled model, and music of a kind that it has never heard.
BUNDLED = "//bundled/musicgen_style_tiny"
TUTORIAL = (
    *("solver=musicgen/musicgen_style_bundled", "preset=cpu", "device=cpu", "num_threads=1"),
    *(f"continue_from={BUNDLED}", "transformer_lm.emb_lr=null", "optim.epochs=1"),
    *("optim.updates_per_epoch=60", "schedule.cosine.warmup=5", "generate.every=null"),
    *("evaluate.every=null", "dataset.num_workers=0", "dataset.segment_duration=5"),
    *("dataset.valid.num_samples=9", "logging.log_tensorboard=false"),
)
GATE = 4  # Hz: strings that are cut into pieces, on and off
FALL = 0.25  # nat per token that fine-tuning has to gain on new music that it did not see


def manifest(path, names) -> str:
    lines = []
    for split in ("train", "valid", "evaluate"):
        for line in (ROOT / "egs/example" / split / "data.jsonl").read_text().splitlines():
            if names(line.split("/")[-1], split):
                lines.append(json.dumps(json.loads(line)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Music without techno to start from, and techno, of which two pieces are held out."""
    folder = tmp_path_factory.mktemp("egs")
    old = manifest(folder / "old.jsonl", lambda name, split: NEW not in name and split == "train")
    new = manifest(folder / "new.jsonl", lambda name, split: NEW in name and split == "train")
    held_out = manifest(
        folder / "held_out.jsonl", lambda name, split: NEW in name and split != "train"
    )
    return old, [f"datasource.train={new}", f"datasource.valid={held_out}"]


@pytest.fixture(scope="module")
def base(splits, tmp_path_factory) -> Run:
    outputs = tmp_path_factory.mktemp("base")
    run = command("-m", "dora", "run", *MODEL, f"datasource.train={splits[0]}", outputs=outputs)
    assert run.returncode == 0, run.output
    return run


@pytest.fixture(scope="module")
def own_music(tmp_path_factory) -> list[str]:
    """A folder of one's own: string music through a gate, three of its pieces held out."""
    folder = tmp_path_factory.mktemp("gated")
    lines: dict[str, list[str]] = {"train": [], "valid": []}
    for path in sorted((ROOT / "dataset" / "example").glob("strings_*.json")):
        (audio,) = (p for p in path.parent.glob(f"{path.stem}.*") if p.suffix != ".json")
        wav, rate = audio_read(audio)
        gate = (torch.arange(wav.shape[-1]) * GATE * 2 // rate) % 2 == 0
        gated = audio_write(folder / path.stem, wav * gate, rate)
        shutil.copy(path, gated.with_suffix(".json"))
        line = {"path": str(gated), "duration": wav.shape[-1] / rate, "sample_rate": rate}
        held_out = path.stem[-2:] in ("01", "02", "03")
        lines["valid" if held_out else "train"].append(json.dumps(line))
    for split, rows in lines.items():
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    train, valid = (f"datasource.{split}={folder / split}.jsonl" for split in ("train", "valid"))
    return [
        train,
        valid,
        *(f"datasource.{s}={folder}/valid.jsonl" for s in ("evaluate", "generate")),
    ]


def tutorial(own_music, outputs, *overrides: str) -> Run:
    run = command("-m", "dora", "run", *TUTORIAL, *own_music, *overrides, outputs=outputs)
    assert run.returncode == 0, run.output
    return run


@pytest.fixture(scope="module")
def before(own_music, tmp_path_factory) -> float:
    """Cross entropy of the bundled model on music of a new kind."""
    inplace = ("execute_only=valid", "execute_inplace=false")
    run = tutorial(own_music, tmp_path_factory.mktemp("before"), *inplace)
    return float(run.output.split("valid, epoch 1: ce ")[1].split(" ")[0])


def test_the_new_music_is_preferred_afterwards(own_music, before, tmp_path):
    run = tutorial(own_music, tmp_path, "optim.lr=5e-4")
    assert run.history[-1]["valid"]["ce"] < before - FALL


def test_adapters_are_enough_and_go_by_themselves(own_music, before, tmp_path):
    run = tutorial(own_music, tmp_path, "lora.use=true", "lora.rank=8", "optim.lr=2e-3")
    assert run.history[-1]["valid"]["ce"] < before - FALL
    adapter = run.folder / "adapter.safetensors"
    assert adapter.stat().st_size < (run.folder / "checkpoint.th").stat().st_size / 20
    script = f"""
import torch
from audiocraft.models import MusicGen
merged = MusicGen.get_pretrained({str(run.folder / "checkpoint.th")!r}, device="cpu")
model = MusicGen.get_pretrained({BUNDLED!r}, device="cpu")
model.load_adapter({str(adapter)!r})
ours, theirs = model.lm.state_dict(), merged.lm.state_dict()
print("WORST", max(float((ours[k] - theirs[k]).abs().max()) for k in ours))
"""
    worst = command("-c", script, outputs=run.outputs).output.split("WORST ")[1]
    assert float(worst) < 1e-5


def test_settings_can_be_inherited_and_are_remembered(base, splits, tmp_path):
    """A run that knows nothing of the model's size takes it over, and goes on with it."""
    job = [o for o in MODEL if not o.startswith("transformer_lm.")]
    job += [*splits[1], "optim.updates_per_epoch=2", "continue_from_config=inherit"]
    start = tmp_path / "start.th"
    shutil.copy(base.folder / "checkpoint.th", start)
    first = command("-m", "dora", "run", *job, f"continue_from={start}", outputs=tmp_path)
    assert first.returncode == 0, first.output
    assert "transformer_lm.dim is 64 there and 192 here" in first.output
    start.unlink()
    again = command("-m", "dora", "run", *job, f"continue_from={start}", outputs=tmp_path)
    assert "All 1 epochs are done" in again.output, again.output


def test_its_own_checkpoint_wins_and_the_log_says_so(base):
    again = command(
        *("-m", "dora", "run", *MODEL, f"datasource.train={base_train(base)}"),
        outputs=base.outputs,
    )
    assert "All 1 epochs are done" in again.output


def base_train(base: Run) -> str:
    (override,) = [
        o for o in json.loads((base.folder / ".argv.json").read_text()) if "datasource.train" in o
    ]
    return override.split("=", 1)[1]


MISTAKES = {
    "another size": (["transformer_lm.dim=32"], "another model"),
    "another number of text rows": (
        ["conditioners.description.lut.n_bins=100"],
        "conditioners.description",
    ),
    "adapters without a base": (["lora.use=true", "continue_from=null"], "say which"),
    "a rank of nothing": (["lora.use=true", "lora.rank=0"], "lora.rank"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(mistake, base, splits, tmp_path):
    overrides, named = MISTAKES[mistake]
    run = command(
        *("-m", "dora", "run", *MODEL, *splits[1]),
        *(f"continue_from={base.folder / 'checkpoint.th'}", *overrides),
        outputs=tmp_path,
    )
    assert run.returncode != 0
    assert named in run.output
    assert "Traceback" not in run.output, run.output


def test_a_hand_made_file_is_enough(base, splits, tmp_path):
    state = torch.load(base.folder / "checkpoint.th", weights_only=True)["best_state"]["model"]
    torch.save({"best_state": {"model": state}}, tmp_path / "made.th")
    run = command(
        *("-m", "dora", "run", *MODEL, *splits[1], "optim.updates_per_epoch=1"),
        f"continue_from={tmp_path / 'made.th'}",
        outputs=tmp_path,
    )
    assert run.returncode == 0, run.output
    assert "Starting from the weights" in run.output
