"""`audiocraft doctor`: the preflight report and its problems."""

import re
from types import SimpleNamespace

import pytest
import torch
import transformers
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.cli.main import main
from audiocraft.doctor import report as report_module
from audiocraft.doctor.device_check import DeviceResult
from audiocraft.doctor.memory import T5_SIZES, format_count, num_parameters
from audiocraft.models.builders import get_lm_model
from audiocraft.solvers.checkpoint import Checkpoints
from tests.conftest import composed

TINY = "solver=musicgen/musicgen_style_tiny"


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    """Runs the command; returns the exit status and the report, by section."""
    monkeypatch.setattr(train.main.dora, "dir", tmp_path)

    def run(*argv):
        status = 0
        try:
            main(["doctor", *argv, "device=cpu"] if argv else ["doctor"])
        except SystemExit as stop:
            status = stop.code
        text = capsys.readouterr().out
        blocks = [block.splitlines() for block in text.strip().split("\n\n") if block]
        return status, {block[0]: "\n".join(block[1:]) for block in blocks}

    run.outputs = tmp_path
    return run


def test_the_bundled_job_has_no_problem(doctor):
    status, report = doctor(TINY, "optim.epochs=3")
    assert status == 0
    sig = train.main.resolve([TINY, "optim.epochs=3"]).sig
    assert sig in report["Experiment"]
    assert f"{TINY} optim.epochs=3" in report["Experiment"]
    assert "new: starts with epoch 1 of 3" in report["Experiment"]
    assert "epoch: 60 updates, 360 clips, 0.60 h" in report["Steps"]
    assert "run: 3 epochs, 180 updates" in report["Steps"]
    assert "learning rate: 0.002 (of the embeddings 0.03), cosine" in report["Steps"]
    assert "train: 80 files" in report["Data"]
    assert f"No problem found. To start: dora run {TINY} optim.epochs=3 device=cpu" in report
    assert not list(doctor.outputs.iterdir())  # nothing was written


def test_parameter_counts_match_the_model(doctor):
    _, report = doctor(TINY)
    model = get_lm_model(composed(TINY))
    extractor = model.condition_provider.conditioners["self_wav"]
    for name, part in (("transformer", model.transformer), ("condition self_wav", extractor)):
        assert re.search(
            rf"{name} +{format_count(num_parameters(part))} +0\n", report["Parameters"]
        )
    assert (
        f"4 B * {format_count(num_parameters(model))}"
        in report["Memory of each process (of 1), estimated"]
    )


def test_sizes_of_text_encoders_are_correct():
    sizes = {"t5-small": (512, 2048, 6, 8), "t5-base": (768, 3072, 12, 12)}
    for name, (width, hidden, layers, heads) in sizes.items():
        config = transformers.T5Config(
            vocab_size=32128, d_model=width, d_kv=64, d_ff=hidden, num_layers=layers,
            num_heads=heads,
        )  # fmt: skip
        with torch.device("meta"):
            assert num_parameters(transformers.T5EncoderModel(config)) == T5_SIZES[name]


def save_checkpoint(doctor, *overrides, epochs, **changed):
    """Write the checkpoint of an experiment after some epochs."""
    xp = train.main.resolve([*overrides, "device=cpu"])
    xp.folder.mkdir(parents=True)
    text = OmegaConf.to_yaml(OmegaConf.merge(xp.cfg, changed), resolve=True)
    state = {"history": [{}] * epochs, "progress": {"updates": 0}, "xp.cfg": text}
    Checkpoints(xp.folder).save(state)


def test_a_started_experiment_resumes_and_its_changes_are_listed(doctor):
    save_checkpoint(doctor, TINY, epochs=4, optim={"max_norm": 5.0})
    status, report = doctor(TINY)
    assert status == 0
    assert "resumes after 4 epochs of 8" in report["Experiment"]
    assert "optim.max_norm: 5.0, now 1.0" in report["Experiment"]
    assert "its own checkpoint, after 4 epochs" in report["Weights"]


def test_a_finished_experiment_is_reported(doctor):
    save_checkpoint(doctor, TINY, epochs=8)
    assert "done: all 8 epochs" in doctor(TINY)[1]["Experiment"]


PROBLEMS = {
    "no manifest": (["datasource.train=egs/nowhere"], "egs/nowhere does not exist"),
    "no tokenizer": (["compression_model_checkpoint=/no/file"], "/no/file does not exist"),
    "another codebook size": (["transformer_lm.card=400"], "transformer_lm.card=400"),
    "a batch that does not divide": (
        ["dataset.batch_size=7", "optim.accumulate=2"],
        "dataset.batch_size is 7",
    ),
    "too long a warm-up": (["schedule.cosine.warmup=600"], "schedule.cosine.warmup is 600 updates"),
    "an unknown optimizer": (["optim.optimizer=sgd"], "optim.optimizer='sgd'"),
    "an unknown schedule": (["schedule.lr_scheduler=linear"], "lr_scheduler='linear'"),
    "adapters of nothing": (["lora.use=true"], "lora.use=true"),
    "segments of padding": (["dataset.segment_duration=40"], "Only 25% of a segment"),
    "too much for the memory": (["dataset.batch_size=9000000"], "Raise optim.accumulate"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_listed_once_and_the_other_sections_are_complete(name, doctor):
    overrides, message = PROBLEMS[name]
    status, report = doctor(TINY, *overrides)
    assert status == 1
    title = next(title for title in report if title.startswith("Problem"))
    assert report[title].count(message) == 1
    assert {"Experiment", "Weights", "Parameters", "Data", "Steps"} <= set(report)


def test_more_processes_share_the_batch_and_the_shards(doctor):
    _, report = doctor(TINY, "--processes", "2", "fsdp.use=true")
    assert "micro-batch of each of 2 processes: 3" in report["Steps"]
    assert "/ 2 processes" in report["Memory of each process (of 2), estimated"]


MISTAKES = {
    "no solver": ([], "solver="),
    "an unknown solver": (["solver=nothing"], "Could not find 'solver/nothing'"),
    "an unknown key": ([TINY, "optim.speed=1"], "optim.speed"),
    "no override": ([TINY, "epochs"], "'epochs' is not an override"),
    "a solver without language model": (["solver=compression/debug"], "solver=compression"),
    "no process": ([TINY, "--processes", "0"], "--processes is 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_run_that_cannot_be_composed_is_an_error(name, doctor):
    argv, message = MISTAKES[name]
    status, report = doctor(*argv)
    assert str(status).startswith("error: ")
    assert message in status
    assert report == {}


def test_a_device_with_wrong_results_is_a_problem(doctor, monkeypatch):
    """The CPU is treated as another device."""
    results = [DeviceResult("language model", False, "differs by 1.2 of its norm (logits)")]
    monkeypatch.setattr(report_module, "check_device", lambda device, dtype: results)
    monkeypatch.setattr("audiocraft.cli.doctor.resolve_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(report_module, "available_memory", lambda device: (1e12, 1e12))
    status, report = doctor(TINY)
    assert status == 1
    assert "meta gives wrong results" in report["Problem:"]
    assert "the language model differs by 1.2 of its norm" in report["Problem:"]
    assert "Do not train on it" in report["Problem:"]


def test_outputs_that_cannot_be_written_are_a_problem(doctor, monkeypatch):
    (doctor.outputs / "file").touch()
    monkeypatch.setattr(train.main.dora, "dir", doctor.outputs / "file" / "x")
    status, report = doctor(TINY)
    assert status == 1
    assert "cannot be written" in report["Problem:"]


REFUSED = [
    "optim.accumulate=0",
    "dataset.batch_size='8'",
    "dataset.segment_duration=-2",
    "dataset.segment_duration=abc",
    "optim.epochs=abc",
    "optim.lr=fast",
    "transformer_lm.num_heads=0",
    "transformer_lm.card=-1",
    "transformer_lm.num_layers=0",
]


@pytest.mark.parametrize("override", REFUSED)
def test_a_refused_setting_is_a_problem_and_the_report_continues(override, doctor):
    status, report = doctor(TINY, override)
    assert status == 1
    key = override.partition("=")[0]
    title = next(title for title in report if title.startswith("Problem"))
    assert key in report[title]
    assert any(section.startswith("Device") for section in report)  # the last one


def test_an_unforeseen_error_in_a_section_is_a_problem(doctor, monkeypatch):
    def fail(plan):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(report_module.SECTIONS, "Memory", fail)
    status, report = doctor(TINY)
    assert status == 1
    assert report["Problem:"] == "- ZeroDivisionError: division by zero"
    assert "epoch: 60 updates" in report["Steps"]


def test_insufficient_disk_space_is_a_problem(doctor, monkeypatch):
    usage = SimpleNamespace(free=10e6)
    monkeypatch.setattr(report_module.shutil, "disk_usage", lambda path: usage)
    status, report = doctor(TINY)
    assert status == 1
    assert "10 MB free but two checkpoints" in report["Problem:"]
