"""Checkpoint files: every format gives the same weights; nothing unsafe is read."""

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from audiocraft.errors import CheckpointError
from audiocraft.utils.checkpoint_files import extract_model_config, read_checkpoint_file

STATE = {"emb.0.weight": torch.arange(6.0).view(2, 3)}
CONFIG = {
    "sample_rate": 16000,
    "transformer_lm": {"n_q": 4},
    "rvq": {"n_q": "${transformer_lm.n_q}"},
}


def as_export(folder):
    path = folder / "state_dict.bin"
    torch.save({"best_state": STATE, "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(CONFIG))}, path)
    return path


def as_training_checkpoint(folder):
    path = folder / "checkpoint.th"
    text = OmegaConf.to_yaml(OmegaConf.create(CONFIG))
    best = {"model": STATE, "metric": 1.0}
    other = {"emb.0.weight": torch.zeros(2, 3)}
    torch.save({"best_state": best, "model": other, "xp.cfg": text}, path)
    return path


def as_checkpoint_of_the_original(folder):
    path = folder / "old.th"
    content = {"best_state": {"model": STATE}, "fsdp_best_state": {}}
    torch.save(content | {"xp.cfg": OmegaConf.create(CONFIG)}, path)
    return path


def as_safetensors(folder):
    path = folder / "model.safetensors"
    save_file(STATE, path)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(CONFIG)))
    return path


def as_safetensors_with_a_header(folder):
    path = folder / "state_dict.safetensors"
    text = OmegaConf.to_yaml(OmegaConf.create(CONFIG))
    save_file(STATE, path, metadata={"format": "pt", "xp.cfg": text})
    (folder / "config.yaml").write_text("sample_rate: 1")  # of another file
    return path


def as_what_is_left_of_sharded_training(folder):
    path = folder / "sharded.th"
    text = OmegaConf.to_yaml(OmegaConf.create(CONFIG))
    content = {"best_state": {}, "fsdp_best_state": {"model": STATE}, "xp.cfg": text}
    torch.save(content, path)
    return path


FORMS = [
    as_export,
    as_training_checkpoint,
    as_checkpoint_of_the_original,
    as_safetensors,
    as_safetensors_with_a_header,
    as_what_is_left_of_sharded_training,
]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_best_weights_and_the_configuration(write, tmp_path):
    package = read_checkpoint_file(write(tmp_path))
    torch.testing.assert_close(package.state, STATE)
    assert package.config.rvq.n_q == 4


def test_plain_weights_need_no_configuration(tmp_path):
    torch.save({"best_state": {"model": STATE}}, tmp_path / "mine.th")
    package = read_checkpoint_file(tmp_path / "mine.th")
    torch.testing.assert_close(package.state, STATE)
    assert not package.config


def test_reference_to_a_published_model_has_no_weights(tmp_path):
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True}, tmp_path / "c.bin")
    assert read_checkpoint_file(tmp_path / "c.bin").pretrained == "facebook/encodec_32khz"


def test_only_model_settings_are_resolved():
    config = OmegaConf.create({**CONFIG, "dora": {"dir": "${oc.env:NOBODY_SETS_THIS}"}})
    config.dataset = {"segment_duration": 30}
    resolved = extract_model_config(config)
    assert resolved.rvq.n_q == 4
    assert resolved.dataset.segment_duration == 30
    assert "dora" not in resolved


def test_values_that_refer_to_nothing_are_left_out_and_warned():
    config = OmegaConf.create(
        {
            "transformer_lm": {"dim": 8, "a": "${nowhere}", "b": [1, "${nowhere}"], "c": "???"},
            "channels": "${oc.env:NOBODY_SETS_THIS}",
            "sample_rate": 8000,
        }
    )
    warned = []
    resolved = extract_model_config(config, lambda key, known: warned.append(key))
    assert resolved.transformer_lm == {"dim": 8}
    assert resolved.sample_rate == 8000
    assert "channels" not in resolved
    assert sorted(warned) == ["channels", *(f"transformer_lm.{key}" for key in "abc")]


@pytest.mark.parametrize(
    ("config", "message"),
    [("- 1", "not a mapping"), ("a: [", "cannot be read"), (3, "cannot be read")],
)
def test_invalid_configuration_raises(config, message, tmp_path):
    torch.save({"best_state": STATE, "xp.cfg": config}, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=rf"configuration in .*x\.bin .*{message}"):
        read_checkpoint_file(tmp_path / "x.bin")


def test_checkpoint_without_weights_lists_its_keys(tmp_path):
    torch.save({"history": [], "xp.cfg": "a: 1"}, tmp_path / "empty.th")
    with pytest.raises(CheckpointError, match="history"):
        read_checkpoint_file(tmp_path / "empty.th")
