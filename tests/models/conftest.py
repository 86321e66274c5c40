"""Fixtures: model files and an offline model hub."""

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from audiocraft.models.weights import hub
from audiocraft.utils import export

REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubCache:
    """A cache of downloaded repositories in the layout of `huggingface_hub`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, repo_id: str, filename: str, source: Path | bytes) -> Path:
        """Add a file as a download does."""
        repository = self.folder / f"models--{repo_id.replace('/', '--')}"
        path = repository / "snapshots" / REVISION / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(REVISION)
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            shutil.copy(source, path)
        return path

    def place(self, repo_id: str, filename: str, content: bytes = b"") -> Path:
        """Add a file at the path for manually placed files."""
        path = self.folder / repo_id / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def offline(tmp_path, monkeypatch) -> HubCache:
    """An empty cache; the hub is unreachable, as with HF_HUB_OFFLINE=1."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.AudioCraftEnvironment, "get_cache_dir", lambda: tmp_path / "cache")
    return HubCache(tmp_path / "cache")


@pytest.fixture
def checkpoint(tiny_musicgen, tiny_config, tmp_path) -> Path:
    """A training checkpoint of the tiny model."""
    state = {
        "best_state": {"model": tiny_musicgen.lm.state_dict(), "metric": 5.0},
        "xp.cfg": OmegaConf.to_yaml(tiny_config),
    }
    torch.save(state, tmp_path / "checkpoint.th")
    return tmp_path / "checkpoint.th"


@pytest.fixture
def exported(checkpoint, tmp_path) -> Path:
    """The exported folder of `checkpoint`; it refers to its tokenizer instead of containing it."""
    folder = tmp_path / "exported"
    export.export_lm(checkpoint, folder / "state_dict.bin")
    export.export_pretrained_compression_model(
        "//pretrained/debug_compression_model", folder / "compression_state_dict.bin"
    )
    return folder
