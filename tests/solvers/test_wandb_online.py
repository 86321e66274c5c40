"""Weights & Biases online: the real client with a local server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..wandb_server import Received, wandb_server

pytestmark = pytest.mark.slow

# Logs the given epochs as a training run does.
SCRIPT = """
import logging, sys
from pathlib import Path
import numpy as np, torch
from audiocraft.solvers.loggers import Loggers, WandbLogger

logging.basicConfig(level="WARNING")
epochs = range(int(sys.argv[2]), int(sys.argv[3]) + 1)
wandb = WandbLogger(
    Path(sys.argv[1]), run_id="abcd1234", config={"optim": {"lr": 0.5}}, with_media=True,
    mode="online", project="music", name="mine", group="ours", finish_timeout=float(sys.argv[4]),
)
loggers = Loggers([wandb])
loggers.start(epochs[0])
for epoch in epochs:
    for stage in ("train", "valid"):
        loggers.log_metrics(stage, {"ce": 1 / epoch}, epoch)
    loggers.log_audio("clip", torch.rand(1, 800) - 0.5, 8000, epoch)
    loggers.log_image("picture", np.zeros((4, 5, 3), np.uint8), epoch)
    loggers.log_metrics("generate", {"samples": 3.0}, epoch)
loggers.close()
print("the run continues")
"""


@pytest.fixture
def server():
    with wandb_server() as received:
        yield received


def log(server: Received, folder: Path, first: int, last: int, finish_timeout: float = 60.0) -> str:
    """Log some epochs; returns the output."""
    # Not the address of a client that serves this process.
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    own = {
        "WANDB_BASE_URL": server.address,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_INIT_TIMEOUT": "20",
        "WANDB_ERROR_REPORTING": "false",
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (folder, first, last, finish_timeout))],
        env=others | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def curve(server: Received, name: str) -> list[tuple[int, float]]:
    return [(line["epoch"], line[name]) for line in server.curves if name in line]


def test_run_is_logged_with_its_curves_and_samples(server, tmp_path):
    log(server, tmp_path, 1, 2)
    announced = [server.run[key] for key in ("name", "project", "displayName", "groupName")]
    assert announced == ["abcd1234", "music", "mine", "ours"]
    assert json.loads(server.run["config"])["optim"]["value"] == {"lr": 0.5}
    assert curve(server, "train/ce") == curve(server, "valid/ce") == [(1, 1.0), (2, 0.5)]
    assert curve(server, "generate/samples") == [(1, 3.0), (2, 3.0)]
    for name, start in (("clip", b"RIFF"), ("picture", b"\x89PNG")):
        paths = [line[name]["path"] for line in server.curves if name in line]
        assert len(paths) == 2
        assert all(server.files[path].startswith(start) for path in paths)


def test_resumed_run_continues_the_same_curves(server, tmp_path):
    log(server, tmp_path, 1, 2)
    printed = log(server, tmp_path, 2, 3)  # killed in epoch 2, which is repeated
    assert curve(server, "valid/ce") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert curve(server, "generate/samples") == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert "less than the current step" not in printed


def test_server_error_does_not_end_the_run(server, tmp_path):
    server.status = 403
    printed = log(server, tmp_path, 1, 1)
    assert "WandbLogger is disabled: " in printed
    assert "the run continues" in printed


def test_unreachable_server_does_not_delay_the_run(server, tmp_path):
    server.status_later = 503  # try again
    printed = log(server, tmp_path, 1, 2, finish_timeout=2.0)
    assert "the run continues" in printed
    assert server.run["name"] == "abcd1234"
    assert not curve(server, "valid/ce")
    assert list(tmp_path.glob("wandb/run-*/*.wandb"))  # for `wandb sync`
