"""Back ends of the logs: they record, and they never stop a run."""

import logging

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audiocraft.solvers.loggers import Loggers, TensorBoardLogger, WandbLogger


class Recorder:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, args))


class Broken(Recorder):
    def log_metrics(self, stage, metrics, step):
        raise RuntimeError("no connection")


def test_a_back_end_that_fails_is_left_out_and_the_others_go_on(caplog):
    good = Recorder()
    loggers = Loggers([Broken(), good])
    with caplog.at_level(logging.WARNING):
        loggers.log_metrics("train", {"ce": 1.0}, 1)
        loggers.log_metrics("train", {"ce": 0.5}, 2)
    assert len(good.calls) == 2
    assert [r.message for r in caplog.records] == ["Broken is off: no connection"]


def test_tensorboard_holds_metrics_audio_and_pictures(tmp_path):
    log = TensorBoardLogger(tmp_path, with_media=True)
    log.log_metrics("valid", {"ce": 3.25}, 4)
    log.log_audio("clip", torch.rand(2, 800) - 0.5, 8000, 4)
    log.log_image("picture", np.zeros((4, 5, 3), np.uint8), 4)
    log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("valid/ce")] == [(4, 3.25)]
    assert events.Tags()["audio"] == ["clip"]
    assert events.Tags()["images"] == ["picture"]


@pytest.mark.slow
def test_wandb_works_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = WandbLogger(tmp_path, run_id="abcd1234", config={"seed": 1}, with_media=True)
    log.log_metrics("valid", {"ce": 3.25}, 1)
    log.log_audio("clip", torch.rand(1, 800) - 0.5, 8000, 1)
    log.log_image("picture", np.zeros((4, 5, 3), np.uint8), 1)
    assert log.run.summary["valid/ce"] == 3.25
    log.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
