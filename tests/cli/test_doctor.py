"""`python -m audiocraft doctor`: the whole plan, and what is in the way of a run."""

import re

import pytest
import torch
import transformers
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.cli.main import main
from audiocraft.doctor import report as examination
from audiocraft.doctor.device_check import Verdict
from audiocraft.doctor.memory import T5_SIZES, count, numel
from audiocraft.models.builders import get_lm_model
from audiocraft.solvers.checkpoint import Checkpoints
from tests.conftest import composed

TINY = "solver=musicgen/musicgen_style_tiny"


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    """Asks the doctor; returns the exit status and the report, by section."""
    monkeypatch.setattr(train.main.dora, "dir", tmp_path)

    def ask(*argv):
        status = 0
        try:
            main(["doctor", *argv, "device=cpu"] if argv else ["doctor"])
        except SystemExit as stop:
            status = stop.code
        text = capsys.readouterr().out
        blocks = [block.splitlines() for block in text.strip().split("\n\n") if block]
        return status, {block[0]: "\n".join(block[1:]) for block in blocks}

    ask.outputs = tmp_path
    return ask


def test_the_plan_of_the_bundled_job_is_told_and_nothing_is_in_its_way(doctor):
    status, report = doctor(TINY, "optim.epochs=3")
    assert status == 0
    sig = train.main.resolve([TINY, "optim.epochs=3"]).sig
    assert sig in report["Experiment"]
    assert f"{TINY} optim.epochs=3" in report["Experiment"]
    assert "new: it starts with epoch 1 of 3" in report["Experiment"]
    assert "an epoch: 60 updates, 360 clips, 0.60 h" in report["Steps"]
    assert "the run: 3 epochs, 180 updates" in report["Steps"]
    assert "learning rate: 0.002 (of the embeddings 0.03), cosine" in report["Steps"]
    assert "train: 80 files" in report["Data"]
    assert f"Nothing is in the way: dora run {TINY} optim.epochs=3 device=cpu" in report
    assert not list(doctor.outputs.iterdir())  # nothing was written


def test_the_parameters_of_the_parts_are_those_of_the_model(doctor):
    _, report = doctor(TINY)
    model = get_lm_model(composed(TINY))
    listeners = model.condition_provider.conditioners["self_wav"]
    for name, part in (("transformer", model.transformer), ("condition self_wav", listeners)):
        assert re.search(rf"{name} +{count(numel(part))} +0\n", report["Parameters"])
    assert f"4 B * {count(numel(model))}" in report["Memory of each process (of 1), estimated"]


def test_known_sizes_of_text_encoders_are_right():
    sizes = {"t5-small": (512, 2048, 6, 8), "t5-base": (768, 3072, 12, 12)}
    for name, (width, hidden, layers, heads) in sizes.items():
        config = transformers.T5Config(
            vocab_size=32128, d_model=width, d_kv=64, d_ff=hidden, num_layers=layers,
            num_heads=heads,
        )  # fmt: skip
        with torch.device("meta"):
            assert numel(transformers.T5EncoderModel(config)) == T5_SIZES[name]


def begun(doctor, *overrides, epochs, **changed):
    """Make it look as if an experiment had run for some epochs."""
    xp = train.main.resolve([*overrides, "device=cpu"])
    xp.folder.mkdir(parents=True)
    text = OmegaConf.to_yaml(OmegaConf.merge(xp.cfg, changed), resolve=True)
    state = {"history": [{}] * epochs, "progress": {"updates": 0}, "xp.cfg": text}
    Checkpoints(xp.folder).save(state)


def test_an_experiment_that_has_begun_goes_on_and_its_changes_are_told(doctor):
    begun(doctor, TINY, epochs=4, optim={"max_norm": 5.0})
    status, report = doctor(TINY)
    assert status == 0
    assert "goes on after 4 epochs of 8" in report["Experiment"]
    assert "optim.max_norm: 5.0, now 1.0" in report["Experiment"]
    assert "its own checkpoint, after 4 epochs" in report["Weights"]


def test_an_experiment_that_is_done_is_told(doctor):
    begun(doctor, TINY, epochs=8)
    assert "done: all 8 epochs" in doctor(TINY)[1]["Experiment"]


PROBLEMS = {
    "no manifest": (["datasource.train=egs/nowhere"], "There is no manifest at egs/nowhere"),
    "no tokenizer": (["compression_model_checkpoint=/no/file"], "there is nothing at /no/file"),
    "another codebook size": (["transformer_lm.card=400"], "transformer_lm.card is 400"),
    "a batch that does not divide": (
        ["dataset.batch_size=7", "optim.accumulate=2"],
        "dataset.batch_size is 7, which does not divide",
    ),
    "too long a warm-up": (["schedule.cosine.warmup=600"], "schedule.cosine.warmup is 600 updates"),
    "an unknown optimizer": (["optim.optimizer=sgd"], "optim.optimizer is 'sgd'"),
    "an unknown schedule": (["schedule.lr_scheduler=linear"], "lr_scheduler is 'linear'"),
    "adapters of nothing": (["lora.use=true"], "say which with continue_from"),
    "segments of padding": (["dataset.segment_duration=40"], "Only 25% of a segment is music"),
    "too much for the memory": (["dataset.batch_size=9000000"], "Raise optim.accumulate"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_in_the_way_is_listed_once_and_the_rest_is_told(name, doctor):
    overrides, message = PROBLEMS[name]
    status, report = doctor(TINY, *overrides)
    assert status == 1
    title = next(title for title in report if title.startswith(("A problem", "Problems")))
    assert report[title].count(message) == 1
    assert {"Experiment", "Weights", "Parameters", "Data", "Steps"} <= set(report)


def test_more_processes_share_the_batch_and_the_shards(doctor):
    _, report = doctor(TINY, "--processes", "2", "fsdp.use=true")
    assert "each of 2 processes computes 3 at a time" in report["Steps"]
    assert "/ 2 processes" in report["Memory of each process (of 2), estimated"]


MISTAKES = {
    "no solver": ([], "Say which run is meant: solver="),
    "an unknown solver": (["solver=nothing"], "Could not find 'solver/nothing'"),
    "an unknown key": ([TINY, "optim.speed=1"], "optim.speed"),
    "no override": ([TINY, "epochs"], "'epochs' is not an override"),
    "an unbuilt solver": (["solver=compression/debug"], "which nobody builds"),
    "no process": ([TINY, "--processes", "0"], "--processes is 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_run_that_cannot_be_composed_is_told_in_a_sentence(name, doctor):
    argv, message = MISTAKES[name]
    status, report = doctor(*argv)
    assert str(status).startswith("error: ")
    assert message in status
    assert report == {}


def test_a_device_that_computes_garbage_is_a_problem(doctor, monkeypatch):
    """The device is not the CPU, as far as the doctor can tell."""
    verdicts = [Verdict("language model", False, "differs by 1.2 of its size (logits)")]
    monkeypatch.setattr(examination, "check_device", lambda device, dtype: verdicts)
    monkeypatch.setattr("audiocraft.cli.doctor.resolve_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(examination, "available", lambda device: (1e12, 1e12))
    status, report = doctor(TINY)
    assert status == 1
    assert "meta computes garbage" in report["A problem:"]
    assert "the language model differs by 1.2 of its size" in report["A problem:"]
    assert "Do not train on it" in report["A problem:"]


def test_outputs_that_cannot_be_written_are_a_problem(doctor, monkeypatch):
    (doctor.outputs / "file").touch()
    monkeypatch.setattr(train.main.dora, "dir", doctor.outputs / "file" / "x")
    status, report = doctor(TINY)
    assert status == 1
    assert "Nothing can be written to" in report["A problem:"]
