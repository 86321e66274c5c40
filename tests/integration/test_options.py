"""Options for memory and speed: separately, and combined in presets."""

import json
import math
import shutil

import pytest
import soundfile
import torch
import transformers

from ..tiny_t5 import write_vocabulary
from .conftest import QUICK, Run, command, run_training, with_settings

SAMPLES = with_settings(QUICK, "generate.every=1")
TWO_CLIPS = ("dataset.batch_size=2",)
# Presets target one GPU size; here the batch is smaller and the device is the CPU.
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
    "8-bit AdamW": ("optim.optimizer=adamw8bit",),
    "D-Adaptation": ("optim.optimizer=dadam", "optim.lr=1", "transformer_lm.emb_lr=null"),
    "Adam": ("optim.optimizer=adam",),
    "exponential moving average on the CPU": ("optim.ema.use=true", "optim.ema.device=cpu"),
    "the first batch repeated": ("benchmark_no_load=true",),
}


def run(outputs, *overrides: str, job=QUICK) -> Run:
    done = run_training(*job, *overrides, outputs=outputs)
    assert math.isfinite(done.history[0]["valid"]["ce"])
    return done


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    """A run without options."""
    return run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    """A folder with a random T5 of the width of `t5-small` and one small layer."""
    folder = tmp_path_factory.mktemp("hub") / "t5-small"
    folder.mkdir()
    write_vocabulary(folder)
    sizes = {"vocab_size": 40, "d_model": 512, "d_ff": 8, "d_kv": 4, "num_heads": 2}
    transformers.T5EncoderModel(
        transformers.T5Config(**sizes, num_layers=1, decoder_start_token_id=0)
    ).save_pretrained(folder)
    return str(folder)


def test_a_text_conditioned_model_trains_and_generates_samples(t5, tmp_path):
    text = ("conditioner=text2music", f"conditioners.description.t5.name={t5}")
    text += ("generate.lm.prompted_samples=true", "generate.lm.remove_prompts=true")
    done = run(tmp_path, *text, "generate.lm.prompt_duration=0.4", job=SAMPLES)
    samples = done.folder / "samples" / "1"
    assert sorted(path.name for path in samples.iterdir()) == ["continuation", "text"]
    for mode, seconds in (("text", 1.0), ("continuation", 0.6)):
        (wav,) = (samples / mode).glob("*.wav")
        assert soundfile.info(wav).duration == pytest.approx(seconds)


def test_a_model_without_conditions_trains(tmp_path):
    done = run(tmp_path, "conditioner=none", job=SAMPLES)
    assert (done.folder / "samples" / "1" / "unconditional").is_dir()


REFUSED = {
    "evaluate.metrics.fad=true": "evaluate.metrics.fad",
    "dtype=float16": "float32",
    "seed=abc": "seed",
    "optim.epochs=1.5": "optim.epochs",
    "transformer_lm.causal=false": "transformer_lm.causal",
    "dataset.segment_duration=1.5": "dataset.segment_duration",
    "logging.level=BOGUS": "logging.level",
    "optim.lrr=3": "optim.lrr",
    "+optim.lrr=3": "optim.lrr",
    "transformer_lm.memory_efficient=true": "transformer_lm.memory_efficient",
    "conditioner=clapemb2music": "CLAP",
    "fuser.prepend=[self_wav]": "description",
    "dora.dir=/somewhere": "AUDIOCRAFT_DORA_DIR",
}


@pytest.mark.parametrize("override", REFUSED)
def test_an_unsupported_setting_is_refused_before_training(override, refusal):
    message = refusal(*QUICK, override)
    assert REFUSED[override] in message
    assert "append to your config" not in message


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_trains(option, plain, tmp_path):
    done = run(tmp_path, *OPTIONS[option])
    assert done.folder.name != plain.folder.name
    assert done.history[0]["valid"]["ce"] == pytest.approx(plain.history[0]["valid"]["ce"], abs=0.5)


def test_checkpointing_does_not_change_results(plain, tmp_path):
    done = run(tmp_path, "transformer_lm.checkpointing=torch")
    for stage in ("train", "valid"):
        assert done.history[0][stage]["ce"] == pytest.approx(plain.history[0][stage]["ce"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_compilation_does_not_change_results(plain, tmp_path):
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


@pytest.mark.slow
def test_samples_of_the_last_epoch_can_be_replaced(tmp_path):
    plain = run(tmp_path, job=SAMPLES)
    samples = plain.folder / "samples"
    before = sorted(path.name for path in samples.iterdir())
    again = run_training(
        *SAMPLES, "execute_only=generate", "execute_inplace=true", outputs=plain.outputs
    )
    assert sorted(path.name for path in samples.iterdir()) == before
    assert again.history[0]["valid"] == plain.history[0]["valid"]


def test_show_prints_the_model_and_the_configuration(tmp_path):
    shown = command("-m", "dora", "run", *QUICK, "show=true", outputs=tmp_path)
    assert shown.returncode == 0, shown.output
    assert "LMModel(" in shown.output
    assert "transformer_lm:" in shown.output
    assert not list(tmp_path.glob("xps/*/checkpoint.th"))


@pytest.mark.slow
def test_an_8_bit_optimizer_resumes(tmp_path):
    """Two epochs in one run or in two runs give the same weights."""
    job = with_settings(QUICK, "optim.epochs=2", "optim.optimizer=adamw8bit")
    job += ("checkpoint.save_every=1",)
    whole = run_training(*job, outputs=tmp_path / "whole")
    cut = tmp_path / "cut" / "xps" / whole.folder.name
    cut.mkdir(parents=True)
    (whole.folder / "checkpoint_1.th").rename(cut / "checkpoint.th")
    rest = run_training(*job, outputs=tmp_path / "cut")
    assert rest.history == whole.history
    ours, theirs = (
        torch.load(r.folder / "checkpoint.th", weights_only=True)["model"] for r in (rest, whole)
    )
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []
