"""Experiments: signature, changed settings, writable folders."""

import logging

import pytest
import torch
from dora.conf import DoraConfig
from dora.xp import XP
from omegaconf import OmegaConf

from audiocraft import train
from audiocraft.errors import ConfigError
from audiocraft.solvers.checkpoint import Checkpoints
from audiocraft.solvers.experiment import (
    INITIAL_SETTINGS_FILE,
    changed_settings,
    check_output_folder,
    experiment_summary,
    log_experiment,
    parse_signature,
)

DORA = DoraConfig(exclude=["device", "logging.*", "dora.*"])


def test_parts_of_a_signature():
    xp = train.main.resolve(
        [
            "solver=musicgen/musicgen_style_tiny",
            "optim.epochs=3",
            "optim.lr=2e-3",  # the default
            "device=cpu",  # excluded
            "transformer_lm={dim: 32, num_heads: 2}",
        ]
    )
    given, dependent, ignored = parse_signature(xp)
    assert given == [
        "solver=musicgen/musicgen_style_tiny",
        "optim.epochs=3",
        "transformer_lm.dim=32",
        "transformer_lm.num_heads=2",
    ]
    assert dependent == [
        "evaluate.every=3"
    ]  # it refers to optim.epochs; generate.every is excluded
    assert ignored == ["optim.lr=2e-3", "device=cpu"]


def test_ignored_overrides_do_not_change_the_signature():
    bare = ["solver=musicgen/musicgen_style_tiny", "optim.epochs=3"]
    xp = train.main.resolve([*bare, "optim.lr=2e-3", "device=cpu"])
    assert train.main.resolve(bare).sig == xp.sig
    assert train.main.resolve(["solver=musicgen/musicgen_style_tiny"]).sig != xp.sig


def test_summary_names_folder_and_settings(tmp_path):
    xp = new_xp(tmp_path, delta=[("optim.lr", 0.5)], argv=["optim.lr=0.5", "device=cpu"])
    text = "\n".join(experiment_summary(xp))
    assert str(tmp_path / "xps" / xp.sig) in text
    assert "signature: optim.lr=0.5" in text
    assert "signature: device=cpu" in text


def new_xp(folder, delta=(), argv=()):
    dora = DoraConfig(exclude=list(DORA.exclude))
    dora.dir = folder
    return XP(dora=dora, cfg=None, argv=list(argv), delta=list(delta))


BEFORE = {"optim": {"lr": 1.0, "max_norm": 1.0}, "device": "cpu", "logging": {"level": "INFO"}}


def changed(**optim):
    return OmegaConf.create(BEFORE | {"optim": BEFORE["optim"] | optim})


def test_changed_settings_have_old_and_new_values():
    now = {"optim": {"lr": 0.5, "warmup": None}, "device": "cuda", "logging": {"level": "DEBUG"}}
    assert changed_settings(BEFORE, now, DORA) == [
        "optim.lr: 1.0, now 0.5",
        "optim.max_norm: 1.0, now absent",
        "optim.warmup: absent, now null",
    ]
    assert changed_settings(BEFORE, BEFORE, DORA) == []


@pytest.fixture
def run(tmp_path, caplog):
    """Logs an experiment, saves a checkpoint, returns the warnings."""
    xp = new_xp(tmp_path, delta=[("optim.lr", 1.0)])
    xp.folder.mkdir(parents=True)
    checkpoints = Checkpoints(xp.folder)

    def start(cfg, then_save=True):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            log_experiment(xp, cfg, checkpoints)
        if then_save:
            state = {"xp.cfg": OmegaConf.to_yaml(cfg), "model": {"w": torch.zeros(1)}}
            checkpoints.save(state)
        return caplog.text

    start.folder = xp.folder
    return start


def test_changed_default_logs_a_warning_until_it_is_reverted(run):
    assert run(changed()) == ""
    assert run(changed()) == ""
    for _ in range(2):  # also when checkpoints have the new value
        assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))
    assert run(changed()) == ""


def test_before_the_first_checkpoint_settings_may_change(run):
    assert run(changed(max_norm=3.0), then_save=False) == ""
    assert run(changed()) == ""
    assert OmegaConf.load(run.folder / INITIAL_SETTINGS_FILE).optim.max_norm == 1.0


def test_experiment_of_an_older_version_is_compared_with_its_checkpoint(run):
    run(changed())
    (run.folder / INITIAL_SETTINGS_FILE).unlink()
    assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))
    assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))


def test_damaged_checkpoint_is_ignored_here(run):
    run(changed())
    (run.folder / INITIAL_SETTINGS_FILE).unlink()
    (run.folder / "checkpoint.th").write_bytes(b"damaged")
    assert run(changed(), then_save=False) == ""


def test_many_changes_are_counted(run):
    run(OmegaConf.create({f"key{i}": 1 for i in range(30)}))
    text = run(OmegaConf.create({f"key{i}": 2 for i in range(30)}))
    assert text.count(", now 2") == 20
    assert "and 10 more" in text


def test_folder_below_a_file_raises(tmp_path):
    (tmp_path / "file").touch()
    for make in (True, False):
        with pytest.raises(ConfigError, match="AUDIOCRAFT_DORA_DIR"):
            check_output_folder(tmp_path / "file" / "outputs", make)


def test_read_only_folder_raises(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root can write everywhere
    with pytest.raises(ConfigError, match="read-only"):
        check_output_folder(tmp_path)


def test_without_make_no_folder_is_created(tmp_path):
    check_output_folder(tmp_path / "new", make=False)
    assert not (tmp_path / "new").exists()
    check_output_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
