"""Loggers: they record, never end a run, and log nothing twice."""

import csv
import json
import logging
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audiocraft.errors import ConfigError
from audiocraft.solvers import loggers as loggers_module
from audiocraft.solvers.loggers import (
    CsvLogger,
    JsonLinesLogger,
    Loggers,
    TensorBoardLogger,
    WandbLogger,
    get_loggers,
)


class Recorder:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, args))


class Broken(Recorder):
    def log_metrics(self, stage, metrics, step):
        raise RuntimeError("no connection")


def test_failing_back_end_is_disabled_and_others_continue(caplog):
    good = Recorder()
    loggers = Loggers([Broken(), good])
    with caplog.at_level(logging.WARNING):
        loggers.log_metrics("train", {"ce": 1.0}, 1)
        loggers.log_metrics("train", {"ce": 0.5}, 2)
    assert len(good.calls) == 2
    assert [r.message for r in caplog.records] == ["Broken is disabled: no connection"]


def test_back_end_that_cannot_be_opened_is_disabled(tmp_path, caplog):
    (tmp_path / "file").touch()
    loggers = Loggers([CsvLogger(tmp_path / "file" / "metrics.csv")])
    loggers.start(1)
    loggers.log_metrics("train", {"ce": 1.0}, 1)
    loggers.close()
    assert [r.message.split(":")[0] for r in caplog.records] == ["CsvLogger is disabled"]


# The rows of an uninterrupted run; others are killed after some of them.
WHOLE = [
    ("train", {"ce": 3.0}, 1),
    ("valid", {"ce": 3.5, "ce_unigram": 4.0}, 1),
    ("train", {"ce": 2.0}, 2),
    ("valid", {"ce": 2.5, "ce_unigram": 4.0}, 2),
    ("evaluate", {"fad": 1.5}, 2),
]


def logged(logger, rows, start=1, stage=None):
    logger.start(start, stage)
    for row in rows:
        logger.log_metrics(*row)
    logger.close()


def rows_of(path):
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
        return [{k: v if k == "stage" else float(v) for k, v in row.items()} for row in rows]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "time"} for row in rows]


@pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])
@pytest.mark.parametrize("killed_after", range(1, len(WHOLE)))
def test_resumed_file_equals_that_of_an_uninterrupted_run(kind, killed_after, tmp_path):
    suffix = "csv" if kind is CsvLogger else "jsonl"
    whole, resumed = tmp_path / f"whole.{suffix}", tmp_path / f"resumed.{suffix}"
    logged(kind(whole), WHOLE)
    logged(kind(resumed), WHOLE[:killed_after])
    epoch = WHOLE[killed_after][2]
    logged(kind(resumed), [row for row in WHOLE if row[2] >= epoch], start=epoch)
    assert rows_of(resumed) == rows_of(whole)
    assert len(rows_of(whole)) == len(WHOLE)


@pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])
def test_single_stage_replaces_only_its_own_rows(kind, tmp_path):
    path = tmp_path / ("m.csv" if kind is CsvLogger else "m.jsonl")
    logged(kind(path), WHOLE)
    logged(kind(path), [("evaluate", {"fad": 1.0}, 2)], start=2, stage="evaluate")
    rows = rows_of(path)
    assert [row["stage"] for row in rows] == [stage for stage, _, _ in WHOLE]
    assert rows[-1]["fad"] == 1.0


def test_table_has_a_column_for_each_metric_of_any_stage(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(CsvLogger(path), WHOLE)
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,stage,ce,ce_unigram,fad"
    assert lines[1] == "1,train,3.0,,"
    assert lines[-1] == "2,evaluate,,,1.5"


def test_incomplete_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logged(JsonLinesLogger(path), WHOLE[:2])
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "sta')
    logged(JsonLinesLogger(path), WHOLE[2:], start=2)
    assert [row["stage"] for row in rows_of(path)] == [stage for stage, _, _ in WHOLE]


def test_values_that_are_not_finite_are_null_in_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logged(JsonLinesLogger(path), [("train", {"ce": float("nan"), "lr": 1e-4}, 1)])
    assert rows_of(path) == [{"epoch": 1, "stage": "train", "ce": None, "lr": 1e-4}]


def test_table_of_other_origin_is_not_overwritten(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_text("name,price\napple,3\n")
    loggers = Loggers([CsvLogger(path)])
    loggers.start(1)
    loggers.log_metrics("train", {"ce": 1.0}, 1)
    assert "metrics.csv was not written by this logger" in caplog.text
    assert path.read_text() == "name,price\napple,3\n"


def test_tensorboard_logs_metrics_audio_and_images(tmp_path):
    log = TensorBoardLogger(tmp_path, with_media=True)
    log.start(1)
    log.log_metrics("valid", {"ce": 3.25}, 4)
    log.log_audio("clip", torch.rand(2, 800) - 0.5, 8000, 4)
    log.log_image("picture", np.zeros((4, 5, 3), np.uint8), 4)
    log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("valid/ce")] == [(4, 3.25)]
    assert events.Tags()["audio"] == ["clip"]
    assert events.Tags()["images"] == ["picture"]


def test_tensorboard_shows_a_repeated_epoch_once(tmp_path):
    logged(TensorBoardLogger(tmp_path, with_media=False), WHOLE[:3])
    logged(TensorBoardLogger(tmp_path, with_media=False), WHOLE[2:], start=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/ce")] == [(1, 3.0), (2, 2.0)]
    assert [(e.step, e.value) for e in events.Scalars("valid/ce")] == [(1, 3.5), (2, 2.5)]


class FakeRun:
    """A run that records logged values and rejects past steps as wandb does."""

    def __init__(self, step=0):
        self.step = self.starting_step = step
        self.logged = []

    def define_metric(self, *args, **kwargs): ...

    def log(self, values, step=None, commit=None):
        step = self.step if step is None else step
        assert step >= self.step
        self.logged.append((step, values))
        self.step = step + bool(commit)

    def finish(self): ...


@pytest.fixture
def wandb_runs(monkeypatch):
    """Replaces wandb: a resumed run continues after the last step."""
    runs = []

    class FakeWandb:
        @staticmethod
        def init(**settings):
            runs.append(FakeRun(runs[-1].step if runs else 0))
            runs[-1].settings = settings
            return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", FakeWandb)
    return runs


def new_wandb(tmp_path, **options):
    return WandbLogger(tmp_path, run_id="abcd1234", config={}, with_media=True, **options)


@pytest.mark.parametrize("killed_after", range(1, len(WHOLE)))
def test_wandb_receives_each_stage_once(killed_after, wandb_runs, tmp_path):
    logged(new_wandb(tmp_path), WHOLE[:killed_after])
    epoch = WHOLE[killed_after][2]
    logged(new_wandb(tmp_path), [row for row in WHOLE if row[2] >= epoch], start=epoch)
    sent = [values for run in wandb_runs for _, values in run.logged]
    expected = [
        {f"{stage}/{k}": v for k, v in metrics.items()} | {"epoch": epoch}
        for stage, metrics, epoch in WHOLE
    ]
    assert sent == expected


@pytest.mark.parametrize("mode", [None, "online", "offline", "disabled"])
def test_wandb_receives_its_mode_and_resumes_the_same_run(mode, wandb_runs, tmp_path):
    log = new_wandb(tmp_path, mode=mode, project="music")
    log.start(1)
    settings = wandb_runs[0].settings
    assert (settings["mode"], settings["project"]) == (mode, "music")
    assert (settings["id"], settings["resume"]) == ("abcd1234", "allow")


def test_unknown_mode_of_wandb_raises(wandb_runs, tmp_path):
    with pytest.raises(ConfigError, match=r"wandb\.mode='sometimes'"):
        new_wandb(tmp_path, mode="sometimes")


def test_missing_wandb_raises(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        new_wandb(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_works_without_network(mode, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = new_wandb(tmp_path, mode=mode)
    log.start(1)
    log.log_audio("clip", torch.rand(1, 800) - 0.5, 8000, 1)
    log.log_image("picture", np.zeros((4, 5, 3), np.uint8), 1)
    log.log_metrics("generate", {"samples": 3.0}, 1)
    assert log.run.summary["generate/samples"] == 3.0
    log.close()
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert bool(files) == (mode == "offline")
    assert bool(list(tmp_path.glob("wandb/*/files/media/audio/*.wav"))) == (mode == "offline")


def configuration(**chosen):
    logging = dict.fromkeys(("log_csv", "log_jsonl", "log_tensorboard", "log_wandb"), False)
    return OmegaConf.create(
        {
            "logging": logging | chosen,
            "tensorboard": {"with_media_logging": False, "name": "mine", "sub_dir": None},
            "wandb": {
                "with_media_logging": True,
                "mode": "disabled",
                "project": None,
                "name": None,
                "group": None,
            },
        }
    )


def test_configuration_chooses_the_back_ends(wandb_runs, tmp_path):
    cfg = configuration(log_csv=True, log_jsonl=True, log_tensorboard=True, log_wandb=True)
    loggers = get_loggers(cfg, tmp_path, "abcd1234")
    kinds = [CsvLogger, JsonLinesLogger, TensorBoardLogger, WandbLogger]
    assert [type(back_end) for back_end in loggers.active] == kinds
    loggers.start(1)
    loggers.close()
    assert (tmp_path / "metrics.csv").exists()
    assert (tmp_path / "metrics.jsonl").exists()
    assert list((tmp_path / "tensorboard" / "mine").iterdir())
    assert not get_loggers(configuration(), tmp_path, "abcd1234").active


def test_only_the_first_process_logs(monkeypatch, tmp_path):
    monkeypatch.setattr(loggers_module, "is_rank_zero", lambda: False)
    assert not get_loggers(configuration(log_csv=True), tmp_path, "abcd1234").active
