"""What an experiment is, and what has changed since it began."""

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
    BEGAN,
    changed_settings,
    check_output_folder,
    experiment_summary,
    log_experiment,
    parse_signature,
)

DORA = DoraConfig(exclude=["device", "logging.*", "dora.*"])


def test_a_signature_is_taken_apart():
    xp = train.main.resolve(
        [
            "solver=musicgen/musicgen_style_tiny",
            "optim.epochs=3",
            "optim.lr=2e-3",  # the default
            "device=cpu",  # excluded
            "transformer_lm={dim: 32, num_heads: 2}",
        ]
    )
    given, following, beside = parse_signature(xp)
    assert given == [
        "solver=musicgen/musicgen_style_tiny",
        "optim.epochs=3",
        "transformer_lm.dim=32",
        "transformer_lm.num_heads=2",
    ]
    assert following == [
        "evaluate.every=3"
    ]  # it refers to optim.epochs; generate.every is excluded
    assert beside == ["optim.lr=2e-3", "device=cpu"]


def test_what_is_no_part_of_a_signature_does_not_change_it():
    bare = ["solver=musicgen/musicgen_style_tiny", "optim.epochs=3"]
    xp = train.main.resolve([*bare, "optim.lr=2e-3", "device=cpu"])
    assert train.main.resolve(bare).sig == xp.sig
    assert train.main.resolve(["solver=musicgen/musicgen_style_tiny"]).sig != xp.sig


def test_the_log_says_where_an_experiment_is(tmp_path):
    xp = new_xp(tmp_path, delta=[("optim.lr", 0.5)], argv=["optim.lr=0.5", "device=cpu"])
    text = "\n".join(experiment_summary(xp))
    assert str(tmp_path / "xps" / xp.sig) in text
    assert "stands for: optim.lr=0.5" in text
    assert "no part of it: device=cpu" in text


def new_xp(folder, delta=(), argv=()):
    dora = DoraConfig(exclude=list(DORA.exclude))
    dora.dir = folder
    return XP(dora=dora, cfg=None, argv=list(argv), delta=list(delta))


BEFORE = {"optim": {"lr": 1.0, "max_norm": 1.0}, "device": "cpu", "logging": {"level": "INFO"}}


def changed(**optim):
    return OmegaConf.create(BEFORE | {"optim": BEFORE["optim"] | optim})


def test_changes_are_named_with_old_and_new_values():
    now = {"optim": {"lr": 0.5, "warmup": None}, "device": "cuda", "logging": {"level": "DEBUG"}}
    assert changed_settings(BEFORE, now, DORA) == [
        "optim.lr: 1.0, now 0.5",
        "optim.max_norm: 1.0, now absent",
        "optim.warmup: absent, now null",
    ]
    assert changed_settings(BEFORE, BEFORE, DORA) == []


@pytest.fixture
def run(tmp_path, caplog):
    """Introduces an experiment that has been saved before, or not; returns its warnings."""
    xp = new_xp(tmp_path, delta=[("optim.lr", 1.0)])
    xp.folder.mkdir(parents=True)
    checkpoints = Checkpoints(xp.folder)

    def introduced(cfg, then_save=True):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            log_experiment(xp, cfg, checkpoints)
        if then_save:
            state = {"xp.cfg": OmegaConf.to_yaml(cfg), "model": {"w": torch.zeros(1)}}
            checkpoints.save(state)
        return caplog.text

    introduced.folder = xp.folder
    return introduced


def test_a_default_that_changed_is_told_as_long_as_it_is_changed(run):
    assert run(changed()) == ""
    assert run(changed()) == ""
    for _ in range(2):  # also when checkpoints have the new value
        assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))
    assert run(changed()) == ""


def test_an_experiment_that_has_learnt_nothing_has_not_begun(run):
    assert run(changed(max_norm=3.0), then_save=False) == ""
    assert run(changed()) == ""
    assert OmegaConf.load(run.folder / BEGAN).optim.max_norm == 1.0


def test_an_experiment_of_an_older_version_is_compared_with_its_checkpoint(run):
    run(changed())
    (run.folder / BEGAN).unlink()
    assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))
    assert "optim.max_norm: 1.0, now 0.5" in run(changed(max_norm=0.5))


def test_a_damaged_checkpoint_does_not_keep_an_experiment_from_being_introduced(run):
    run(changed())
    (run.folder / BEGAN).unlink()
    (run.folder / "checkpoint.th").write_bytes(b"damaged")
    assert run(changed(), then_save=False) == ""


def test_many_changes_are_counted(run):
    run(OmegaConf.create({f"key{i}": 1 for i in range(30)}))
    text = run(OmegaConf.create({f"key{i}": 2 for i in range(30)}))
    assert text.count(", now 2") == 20
    assert "and 10 more" in text


def test_a_folder_in_which_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    for make in (True, False):
        with pytest.raises(ConfigError, match=r"choose another folder .* AUDIOCRAFT_DORA_DIR"):
            check_output_folder(tmp_path / "file" / "outputs", make)


def test_a_read_only_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ConfigError, match="read-only for this user"):
        check_output_folder(tmp_path)


def test_looking_makes_no_folder(tmp_path):
    check_output_folder(tmp_path / "new", make=False)
    assert not (tmp_path / "new").exists()
    check_output_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
