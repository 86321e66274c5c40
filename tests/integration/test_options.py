"""What fits a model into a machine: each option by itself, and as the presets combine them."""

import json
import math
import shutil

import pytest
import soundfile
import torch
import transformers

from ..tiny_t5 import write_vocabulary
from .conftest import SMALL, Run, command

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("options")]
ONE = (*(o for o in SMALL if not o.startswith("optim.epochs")), "optim.epochs=1")
TWO_CLIPS = ("dataset.batch_size=2",)
# Presets are for one size of GPU; here, only the batch is smaller and the machine has none.
PRESETS = {
    "cpu": (),
    "16gb": ("dataset.batch_size=4", "optim.accumulate=2", "device=cpu"),
    "24gb": ("optim.accumulate=2", "device=cpu", *TWO_CLIPS),
    "80gb": ("dataset.batch_size=4", "optim.accumulate=2", "device=cpu"),
}
OPTIONS = {
    "accumulation": ("optim.accumulate=2",),
    "bfloat16": ("autocast=true", "autocast_dtype=bfloat16"),
    "float16 with a scaler": ("autocast=true", "autocast_dtype=float16"),
    "checkpointing": ("transformer_lm.checkpointing=torch",),
    "8-bit AdamW": ("optim.optimizer=adamw8bit",),
    "D-Adaptation": ("optim.optimizer=dadam", "optim.lr=1", "transformer_lm.emb_lr=null"),
    "Adam": ("optim.optimizer=adam",),
    "an average on the CPU": ("optim.ema.use=true", "optim.ema.device=cpu"),
    "the first batch again and again": ("benchmark_no_load=true",),
}


def run(outputs, *overrides: str) -> Run:
    done = command("-m", "dora", "run", *ONE, *overrides, outputs=outputs)
    assert done.returncode == 0, done.output
    assert math.isfinite(done.history[0]["valid"]["ce"])
    return done


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    """A folder with a T5 that is as wide as `t5-small`, and nothing else of it."""
    folder = tmp_path_factory.mktemp("hub") / "t5-small"
    folder.mkdir()
    write_vocabulary(folder)
    sizes = {"vocab_size": 40, "d_model": 512, "d_ff": 8, "d_kv": 4, "num_heads": 2}
    transformers.T5EncoderModel(
        transformers.T5Config(**sizes, num_layers=1, decoder_start_token_id=0)
    ).save_pretrained(folder)
    return str(folder)


def test_a_model_of_text_alone_trains_and_is_heard(t5, tmp_path):
    text = ("conditioner=text2music", f"conditioners.description.t5.name={t5}")
    text += ("generate.lm.prompted_samples=true",)
    done = run(
        tmp_path, *text, "generate.lm.remove_prompts=true", "generate.lm.prompt_duration=0.4"
    )
    samples = done.folder / "samples" / "1"
    assert sorted(path.name for path in samples.iterdir()) == ["continuation", "text"]
    for way, seconds in (("text", 1.0), ("continuation", 0.6)):
        (wav,) = (samples / way).glob("*.wav")
        assert soundfile.info(wav).duration == pytest.approx(seconds)


def test_a_model_without_conditions_trains(tmp_path):
    done = run(tmp_path, "conditioner=none")
    assert (done.folder / "samples" / "1" / "unconditional").is_dir()


REFUSED = {
    "evaluate.metrics.fad=true": "evaluate.metrics.fad is not built yet",
    "dtype=float16": "held in float32",
    "seed=abc": "seed is 'abc'. Give a whole number",
    "optim.epochs=1.5": "optim.epochs is 1.5",
    "transformer_lm.causal=false": "could not generate",
    "dataset.segment_duration=1.5": "the excerpt that validation listens to, is 3 s",
    "logging.level=BOGUS": "Choose DEBUG",
    "optim.lrr=3": "Could not override 'optim.lrr'.\n",
    "+optim.lrr=3": "Nothing reads the setting optim.lrr",
    "transformer_lm.memory_efficient=true": "is retired: there is one attention",
    "conditioner=clapemb2music": "is retired: CLAP",
    "fuser.prepend=[self_wav]": "Nothing says how to fuse the condition 'description'",
    "dora.dir=/somewhere": "AUDIOCRAFT_DORA_DIR moves the folder",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_carried_out_is_told_before_it_starts(override, tmp_path):
    done = command("-m", "dora", "run", *ONE, override, outputs=tmp_path)
    assert done.returncode == 1
    assert REFUSED[override] in done.output
    assert "Traceback" not in done.output
    assert "append to your config" not in done.output


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_trains(option, plain, tmp_path):
    done = run(tmp_path, *OPTIONS[option])
    assert done.folder.name != plain.folder.name
    assert done.history[0]["valid"]["ce"] == pytest.approx(plain.history[0]["valid"]["ce"], abs=0.5)


def test_checkpointing_changes_nothing(plain, tmp_path):
    done = run(tmp_path, "transformer_lm.checkpointing=torch")
    for stage in ("train", "valid"):
        assert done.history[0][stage]["ce"] == pytest.approx(plain.history[0][stage]["ce"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_model_learns_the_same(plain, tmp_path):
    done = run(tmp_path, "compile.use=true")
    for stage in ("train", "valid"):
        ours, theirs = done.history[0][stage]["ce"], plain.history[0][stage]["ce"]
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_profile_can_be_read(tmp_path):
    done = run(tmp_path, "profiler.enabled=true", "optim.updates_per_epoch=9")
    trace = json.loads((done.folder / "profile" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert any("linear" in str(name) for name in names)
    assert "CPU" in (done.folder / "profile" / "operations.txt").read_text()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains(preset, plain, tmp_path):
    lora = (f"continue_from={plain.folder / 'checkpoint.th'}",) if preset == "16gb" else ()
    done = run(tmp_path, f"preset={preset}", *PRESETS[preset], *lora)
    assert (done.folder / "adapter.safetensors").exists() == (preset == "16gb")


def test_results_can_replace_those_of_the_last_epoch(plain):
    samples = plain.folder / "samples"
    before = sorted(path.name for path in samples.iterdir())
    again = command(
        *("-m", "dora", "run", *ONE),
        *("execute_only=generate", "execute_inplace=true"),
        outputs=plain.outputs,
    )
    assert again.returncode == 0, again.output
    assert sorted(path.name for path in samples.iterdir()) == before
    assert again.history[0]["valid"] == plain.history[0]["valid"]


def test_what_a_model_looks_like_can_be_shown(tmp_path):
    shown = command("-m", "dora", "run", *ONE, "show=true", outputs=tmp_path)
    assert shown.returncode == 0, shown.output
    assert "LMModel(" in shown.output
    assert "transformer_lm:" in shown.output
    assert not list(tmp_path.glob("xps/*/checkpoint.th"))


def test_an_8_bit_optimizer_goes_on_where_it_was(tmp_path):
    """Two epochs at once, and one after the other, end with the same weights."""
    job = [o for o in SMALL if not o.startswith("optim.epochs")]
    job += ["optim.optimizer=adamw8bit", "checkpoint.save_every=1", "optim.epochs=2"]
    whole = command("-m", "dora", "run", *job, outputs=tmp_path / "whole")
    assert whole.returncode == 0, whole.output
    cut = tmp_path / "cut" / "xps" / whole.folder.name
    cut.mkdir(parents=True)
    (whole.folder / "checkpoint_1.th").rename(cut / "checkpoint.th")
    rest = command("-m", "dora", "run", *job, outputs=tmp_path / "cut")
    assert rest.history == whole.history
    ours, theirs = (
        torch.load(r.folder / "checkpoint.th", weights_only=True)["model"] for r in (rest, whole)
    )
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []
