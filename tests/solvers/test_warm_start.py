"""Warm start configuration: differences are logged, or settings inherited."""

import logging

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.errors import ConfigError
from audiocraft.solvers.warm_start import (
    apply_warm_start_config,
    check_lora,
    warn_fast_embeddings,
    warn_setting_differences,
)


def checkpoint(path, config):
    state = {"best_state": {"model": {"w": torch.zeros(1)}}}
    if config is not None:
        state["xp.cfg"] = OmegaConf.to_yaml(config)
    torch.save(state, path)
    return str(path)


def other_config(cfg):
    """The configuration of a model twice as wide, trained on longer clips."""
    other = cfg.copy()
    OmegaConf.set_struct(other, False)
    other.transformer_lm.dim = 64
    other.conditioners.self_wav.style.bins = 256
    other.dataset.segment_duration = 30
    return other


@pytest.fixture
def cfg(tiny_config):
    cfg = tiny_config.copy()
    OmegaConf.set_struct(cfg, False)
    return cfg


def test_differences_are_logged_with_both_values(cfg, tmp_path, caplog):
    source = checkpoint(tmp_path / "other.th", other_config(cfg))
    with caplog.at_level(logging.WARNING):
        warn_setting_differences(cfg, source)
    assert "transformer_lm.dim (model 64, run 32)" in caplog.text
    assert "conditioners.self_wav.style.bins (model 256, run 1024)" in caplog.text
    assert "dataset.segment_duration (model 30, run 6)" in caplog.text
    assert "continue_from_config=inherit" in caplog.text


def test_equal_settings_log_no_warning(cfg, tmp_path, caplog):
    warn_setting_differences(cfg, checkpoint(tmp_path / "same.th", cfg))
    assert caplog.text == ""


def test_settings_of_the_model_are_inherited_and_a_shorter_window_is_logged(cfg, tmp_path, caplog):
    source = checkpoint(tmp_path / "other.th", other_config(cfg))
    cfg.continue_from, cfg.continue_from_config = source, "inherit"
    merged = apply_warm_start_config(cfg, tmp_path / "run")
    assert merged.transformer_lm.dim == 64
    assert merged.conditioners.self_wav.style.bins == 256
    assert merged.dataset.segment_duration == 6
    assert merged.optim == cfg.optim
    assert cfg.transformer_lm.dim == 32
    warn_setting_differences(merged, source)
    assert "dataset.segment_duration (model 30, run 6)" in caplog.text
    assert "transformer_lm" not in caplog.text


RUN_VALUES = {"emb_lr": None, "checkpointing": "torch", "dropout": 0.25, "attention_dropout": 0.5}


def test_training_settings_in_transformer_lm_are_not_inherited(cfg, tmp_path, caplog):
    other = other_config(cfg)
    other.transformer_lm.update({"emb_lr": 3e-2, "checkpointing": "none", "dropout": 0.0})
    source = checkpoint(tmp_path / "other.th", other)
    cfg.transformer_lm.update(RUN_VALUES)
    cfg.continue_from, cfg.continue_from_config = source, "inherit"
    merged = apply_warm_start_config(cfg, tmp_path / "run").transformer_lm
    assert merged.dim == 64
    assert {key: merged[key] for key in RUN_VALUES} == RUN_VALUES
    cfg.continue_from_config = None
    with caplog.at_level(logging.WARNING):
        warn_setting_differences(cfg, source)
    assert "transformer_lm.dim" in caplog.text
    assert not any(key in caplog.text for key in RUN_VALUES)


def test_high_learning_rate_of_trained_embeddings_logs_a_warning(cfg, caplog):
    cfg.transformer_lm.emb_lr, cfg.optim.lr = 3e-2, 1e-4
    warn_fast_embeddings(cfg)
    assert "emb_lr=0.03 exceeds optim.lr=0.0001" in caplog.text
    assert "transformer_lm.emb_lr=null" in caplog.text


@pytest.mark.parametrize(
    "override", ["transformer_lm.emb_lr=null", "lora.use=true", "execute_only=valid", "optim.lr=1"]
)
def test_otherwise_the_learning_rate_of_embeddings_logs_no_warning(override, cfg, caplog):
    cfg.transformer_lm.emb_lr, cfg.optim.lr = 3e-2, 1e-4
    warn_fast_embeddings(OmegaConf.merge(cfg, OmegaConf.from_dotlist([override])))
    assert caplog.text == ""


def test_inherited_settings_are_read_from_the_checkpoint_of_the_run(cfg, tmp_path):
    checkpoint(tmp_path / "checkpoint.th", other_config(cfg))
    cfg.continue_from, cfg.continue_from_config = "//pretrained/gone/away", "inherit"
    assert apply_warm_start_config(cfg, tmp_path).transformer_lm.dim == 64


def test_by_default_nothing_is_inherited(cfg, tmp_path):
    cfg.continue_from = checkpoint(tmp_path / "other.th", other_config(cfg))
    assert apply_warm_start_config(cfg, tmp_path) is cfg


@pytest.mark.parametrize(
    ("value", "message"),
    [("inherit", "set continue_from"), ("adopt", "continue_from_config='adopt'")],
)
def test_without_a_source_inheriting_raises(value, message, cfg, tmp_path):
    cfg.continue_from_config = value
    with pytest.raises(ConfigError, match=message):
        apply_warm_start_config(cfg, tmp_path)


def test_file_without_settings_cannot_be_inherited_from(cfg, tmp_path, caplog):
    cfg.continue_from = checkpoint(tmp_path / "made.th", None)
    warn_setting_differences(cfg, cfg.continue_from)
    assert caplog.text == ""
    cfg.continue_from_config = "inherit"
    with pytest.raises(ConfigError, match="weights without settings"):
        apply_warm_start_config(cfg, tmp_path)


def test_lora_needs_a_model_and_no_sharding(cfg):
    with pytest.raises(ConfigError, match="continue_from"):
        check_lora(cfg, is_sharded=False)
    cfg.continue_from = "//sig/a1b2c3d4"
    check_lora(cfg, is_sharded=False)
    with pytest.raises(ConfigError, match=r"fsdp\.use=false"):
        check_lora(cfg, is_sharded=True)
