"""What names stand for, and where files of the hub are found."""

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from audiocraft.errors import CheckpointError
from audiocraft.models.weights import hub

STYLE = "facebook/musicgen-style"
BOTH = ("state_dict.safetensors", "state_dict.bin")


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
    with pytest.raises(CheckpointError, match="AUDIOCRAFT_DORA_DIR"):
        hub.local_path("//sig/ffffffff")


def test_what_was_downloaded_before_is_found_offline(offline):
    path = offline.add(STYLE, "state_dict.bin", b"weights")
    assert hub.fetch(STYLE, "state_dict.bin").read_bytes() == b"weights"
    assert hub.fetch(STYLE, *BOTH).samefile(path)  # although the better file is not there


def test_the_better_file_wins(offline):
    for filename in BOTH:
        offline.add(STYLE, filename, filename.encode())
    assert hub.fetch(STYLE, *BOTH).name == "state_dict.safetensors"


def test_a_file_that_was_put_into_the_cache_by_hand_is_found(offline):
    path = offline.place(STYLE, "state_dict.bin")
    assert hub.fetch(STYLE, *BOTH) == path


def test_offline_it_is_told_which_files_to_put_where(offline):
    with pytest.raises(CheckpointError) as caught:
        hub.fetch(STYLE, *BOTH, beside=["compression_state_dict.bin"])
    told = str(caught.value)
    assert "HF_HUB_OFFLINE" in told
    assert "state_dict.bin or state_dict.safetensors and compression_state_dict.bin" in told
    assert f"{offline.folder}/facebook/musicgen-style/" in told
    assert "AUDIOCRAFT_CACHE_DIR" in told


def answering(monkeypatch, answers):
    """Stand where the download does: give a path for each file, or raise; returns the calls."""
    asked = []

    def download(repo_id, filename, cache_dir):
        assert cache_dir == hub.AudioCraftEnvironment.get_cache_dir()
        asked.append(filename)
        answer = answers[filename]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return asked


class Response:
    """As much of an answer of the hub as its errors ask for."""

    headers: dict = {}
    status_code = 404
    request = None
    text = ""


def test_a_file_that_the_hub_lacks_is_passed_over(monkeypatch, tmp_path):
    missing = EntryNotFoundError("404")
    answering(monkeypatch, {BOTH[0]: missing, BOTH[1]: str(tmp_path / BOTH[1])})
    assert hub.fetch("a/b", *BOTH) == tmp_path / BOTH[1]


def test_a_repository_without_the_files_says_so(monkeypatch):
    answering(monkeypatch, dict.fromkeys(BOTH, EntryNotFoundError("404")))
    with pytest.raises(
        hub.HubFileMissing, match=r"none of: state_dict\.safetensors, state_dict\.bin"
    ):
        hub.fetch("a/b", *BOTH)


def test_a_broken_connection_is_not_taken_for_a_missing_file(monkeypatch):
    gone = LocalEntryNotFoundError("no network")
    answering(monkeypatch, {BOTH[0]: EntryNotFoundError("404"), BOTH[1]: gone})
    with pytest.raises(CheckpointError, match="cannot be reached") as caught:
        hub.fetch("a/b", *BOTH)
    assert not isinstance(caught.value, hub.HubFileMissing)


def test_a_hub_out_of_reach_is_asked_once(monkeypatch):
    asked = answering(monkeypatch, dict.fromkeys(BOTH, LocalEntryNotFoundError("no network")))
    with pytest.raises(CheckpointError, match="cannot be reached"):
        hub.fetch("a/b", *BOTH)
    assert asked == [BOTH[0]]


def test_a_refusal_of_the_hub_is_told(monkeypatch):
    answering(monkeypatch, {"x.bin": RepositoryNotFoundError("no such model", response=Response())})
    with pytest.raises(CheckpointError, match="hf auth login"):
        hub.fetch("a/b", "x.bin")


def test_a_bare_signature_is_an_experiment_unless_a_path_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.expand_signature("0123abcd") == "//sig/0123abcd"
    assert hub.expand_signature("medium") == "medium"
    (tmp_path / "0123abcd").mkdir()
    assert hub.expand_signature("0123abcd") == "0123abcd"
