"""Resolution of model names and of files of the hub."""

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
def test_hub_ids_and_local_paths_are_distinguished(name, expected):
    assert hub.hub_id(name) == expected


def test_existing_folder_takes_precedence_over_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    assert hub.hub_id("mine/model") is None


def test_unknown_bundled_name_lists_the_available_ones():
    with pytest.raises(CheckpointError, match="musicnn_mtt"):
        hub.local_path("//bundled/nothing")


def test_experiment_without_checkpoint_raises_with_a_hint():
    with pytest.raises(CheckpointError, match="AUDIOCRAFT_DORA_DIR"):
        hub.local_path("//sig/ffffffff")


def test_cached_download_is_found_offline(offline):
    path = offline.add(STYLE, "state_dict.bin", b"weights")
    assert hub.fetch(STYLE, "state_dict.bin").read_bytes() == b"weights"
    assert hub.fetch(STYLE, *BOTH).samefile(path)  # although the preferred file is missing


def test_preferred_file_takes_precedence(offline):
    for filename in BOTH:
        offline.add(STYLE, filename, filename.encode())
    assert hub.fetch(STYLE, *BOTH).name == "state_dict.safetensors"


def test_manually_placed_file_is_found(offline):
    path = offline.place(STYLE, "state_dict.bin")
    assert hub.fetch(STYLE, *BOTH) == path


def test_offline_error_names_files_and_folder(offline):
    with pytest.raises(CheckpointError) as caught:
        hub.fetch(STYLE, *BOTH, beside=["compression_state_dict.bin"])
    message = str(caught.value)
    assert "HF_HUB_OFFLINE" in message
    assert "state_dict.bin or state_dict.safetensors and compression_state_dict.bin" in message
    assert f"{offline.folder}/facebook/musicgen-style/" in message
    assert "AUDIOCRAFT_CACHE_DIR" in message


def stub_download(monkeypatch, results):
    """Replace the download: returns or raises the result of each file; returns the requests."""
    requests = []

    def download(repo_id, filename, cache_dir):
        assert cache_dir == hub.AudioCraftEnvironment.get_cache_dir()
        requests.append(filename)
        result = results[filename]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return requests


class Response:
    """Stub of a hub response with the attributes that its errors need."""

    headers: dict = {}
    status_code = 404
    request = None
    text = ""


def test_file_missing_on_the_hub_is_skipped(monkeypatch, tmp_path):
    missing = EntryNotFoundError("404")
    stub_download(monkeypatch, {BOTH[0]: missing, BOTH[1]: str(tmp_path / BOTH[1])})
    assert hub.fetch("a/b", *BOTH) == tmp_path / BOTH[1]


def test_repository_without_the_files_raises(monkeypatch):
    stub_download(monkeypatch, dict.fromkeys(BOTH, EntryNotFoundError("404")))
    with pytest.raises(
        hub.HubFileMissing, match=r"none of: state_dict\.safetensors, state_dict\.bin"
    ):
        hub.fetch("a/b", *BOTH)


def test_broken_connection_is_not_reported_as_missing_file(monkeypatch):
    gone = LocalEntryNotFoundError("no network")
    stub_download(monkeypatch, {BOTH[0]: EntryNotFoundError("404"), BOTH[1]: gone})
    with pytest.raises(CheckpointError, match="cannot be reached") as caught:
        hub.fetch("a/b", *BOTH)
    assert not isinstance(caught.value, hub.HubFileMissing)


def test_unreachable_hub_is_requested_once(monkeypatch):
    requests = stub_download(
        monkeypatch, dict.fromkeys(BOTH, LocalEntryNotFoundError("no network"))
    )
    with pytest.raises(CheckpointError, match="cannot be reached"):
        hub.fetch("a/b", *BOTH)
    assert requests == [BOTH[0]]


def test_hub_access_error_is_raised(monkeypatch):
    stub_download(
        monkeypatch, {"x.bin": RepositoryNotFoundError("no such model", response=Response())}
    )
    with pytest.raises(CheckpointError, match="hf auth login"):
        hub.fetch("a/b", "x.bin")


def test_signature_names_an_experiment_unless_a_path_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.expand_signature("0123abcd") == "//sig/0123abcd"
    assert hub.expand_signature("medium") == "medium"
    (tmp_path / "0123abcd").mkdir()
    assert hub.expand_signature("0123abcd") == "0123abcd"
