"""Settings of the model that a run continues: told where they differ, taken over on demand."""

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


def of_another(cfg):
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


def test_differences_are_told_with_both_values(cfg, tmp_path, caplog):
    source = checkpoint(tmp_path / "other.th", of_another(cfg))
    with caplog.at_level(logging.WARNING):
        warn_setting_differences(cfg, source)
    assert "transformer_lm.dim is 64 there and 32 here" in caplog.text
    assert "conditioners.self_wav.style.bins is 256 there and 1024 here" in caplog.text
    assert "dataset.segment_duration is 30 there and 6 here" in caplog.text
    assert "continue_from_config=inherit" in caplog.text


def test_of_the_same_settings_nothing_is_told(cfg, tmp_path, caplog):
    warn_setting_differences(cfg, checkpoint(tmp_path / "same.th", cfg))
    assert caplog.text == ""


def test_settings_of_the_model_are_taken_over_and_those_of_the_training_stay(cfg, tmp_path):
    source = checkpoint(tmp_path / "other.th", of_another(cfg))
    cfg.continue_from, cfg.continue_from_config = source, "inherit"
    merged = apply_warm_start_config(cfg, tmp_path / "run")
    assert merged.transformer_lm.dim == 64
    assert merged.conditioners.self_wav.style.bins == 256
    assert merged.dataset.segment_duration == 6
    assert merged.optim == cfg.optim
    assert cfg.transformer_lm.dim == 32


OWN_WAY = {"emb_lr": None, "checkpointing": "torch", "dropout": 0.25, "attention_dropout": 0.5}


def test_how_a_model_is_trained_stays_the_run_s_own(cfg, tmp_path, caplog):
    """Though these settings stand beside the size of the model."""
    other = of_another(cfg)
    other.transformer_lm.update({"emb_lr": 3e-2, "checkpointing": "none", "dropout": 0.0})
    source = checkpoint(tmp_path / "other.th", other)
    cfg.transformer_lm.update(OWN_WAY)
    cfg.continue_from, cfg.continue_from_config = source, "inherit"
    merged = apply_warm_start_config(cfg, tmp_path / "run").transformer_lm
    assert merged.dim == 64
    assert {key: merged[key] for key in OWN_WAY} == OWN_WAY
    cfg.continue_from_config = None
    with caplog.at_level(logging.WARNING):
        warn_setting_differences(cfg, source)
    assert "transformer_lm.dim" in caplog.text
    assert not any(key in caplog.text for key in OWN_WAY)


def test_a_rate_for_embeddings_that_know_nothing_is_told(cfg, caplog):
    cfg.transformer_lm.emb_lr, cfg.optim.lr = 3e-2, 1e-4
    warn_fast_embeddings(cfg)
    assert (
        "emb_lr=0.03 lets the embeddings learn faster than the rest (optim.lr=0.0001)"
        in caplog.text
    )
    assert "transformer_lm.emb_lr=null" in caplog.text


@pytest.mark.parametrize(
    "override", ["transformer_lm.emb_lr=null", "lora.use=true", "execute_only=valid", "optim.lr=1"]
)
def test_elsewhere_the_rate_of_embeddings_is_no_matter(override, cfg, caplog):
    cfg.transformer_lm.emb_lr, cfg.optim.lr = 3e-2, 1e-4
    warn_fast_embeddings(OmegaConf.merge(cfg, OmegaConf.from_dotlist([override])))
    assert caplog.text == ""


def test_a_run_s_own_checkpoint_remembers_what_was_taken_over(cfg, tmp_path):
    checkpoint(tmp_path / "checkpoint.th", of_another(cfg))
    cfg.continue_from, cfg.continue_from_config = "//pretrained/gone/away", "inherit"
    assert apply_warm_start_config(cfg, tmp_path).transformer_lm.dim == 64


def test_without_being_asked_nothing_is_taken_over(cfg, tmp_path):
    cfg.continue_from = checkpoint(tmp_path / "other.th", of_another(cfg))
    assert apply_warm_start_config(cfg, tmp_path) is cfg


@pytest.mark.parametrize(
    ("value", "message"), [("inherit", "needs continue_from"), ("adopt", "'adopt'. Choose null")]
)
def test_what_cannot_be_inherited_is_refused(value, message, cfg, tmp_path):
    cfg.continue_from_config = value
    with pytest.raises(ConfigError, match=message):
        apply_warm_start_config(cfg, tmp_path)


def test_a_hand_made_file_has_nothing_to_inherit(cfg, tmp_path, caplog):
    cfg.continue_from = checkpoint(tmp_path / "made.th", None)
    warn_setting_differences(cfg, cfg.continue_from)
    assert caplog.text == ""
    cfg.continue_from_config = "inherit"
    with pytest.raises(ConfigError, match="weights without settings"):
        apply_warm_start_config(cfg, tmp_path)


def test_adapters_need_something_to_adapt(cfg):
    with pytest.raises(ConfigError, match="continue_from="):
        check_lora(cfg, is_sharded=False)
    cfg.continue_from = "//sig/a1b2c3d4"
    check_lora(cfg, is_sharded=False)
    with pytest.raises(ConfigError, match=r"fsdp\.use=false"):
        check_lora(cfg, is_sharded=True)
