"""What names stand for."""

import pytest

from audiocraft.errors import CheckpointError
from audiocraft.models import hub


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("facebook/musicgen-style", "facebook/musicgen-style"),
        ("//pretrained/facebook/encodec_32khz", "facebook/encodec_32khz"),
        ("//bundled/mel_rvq_16khz", None),
        ("//sig/abcd1234", None),
        ("./outputs/model", None),
        ("checkpoint.th", None),
        ("/checkpoints/my/checkpoint.th", None),
    ],
)
def test_names_of_the_hub_are_told_from_local_ones(name, expected):
    assert hub.hub_id(name) == expected


def test_a_folder_that_exists_wins_over_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    assert hub.hub_id("mine/model") is None


def test_a_bundled_name_that_is_wrong_lists_the_right_ones():
    with pytest.raises(CheckpointError, match="musicnn_mtt"):
        hub.local_path("//bundled/nothing")


def test_an_experiment_that_never_ran_says_what_to_do():
    with pytest.raises(CheckpointError, match="Train that experiment first"):
        hub.local_path("//sig/ffffffff")


def test_offline_the_files_to_fetch_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.AudioCraftEnvironment, "get_cache_dir", lambda: tmp_path)
    with pytest.raises(CheckpointError, match=r"state_dict\.bin"):
        hub.fetch("facebook/musicgen-style", "state_dict.bin")
