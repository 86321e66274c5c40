"""Checkpoints: what was saved comes back, and nothing torn is ever seen."""

import pytest
import torch

from audiocraft.errors import CheckpointError
from audiocraft.solvers import checkpoint
from audiocraft.solvers.checkpoint import Checkpoints, load_state, save_atomically


def test_what_is_saved_comes_back(tmp_path):
    state = {
        "model": {"w": torch.arange(3.0)},
        "history": [{"valid": {"ce": 1.5}}],
        "xp.cfg": "a: 1",
    }
    save_atomically(state, tmp_path / "checkpoint.th")
    loaded = load_state(tmp_path / "checkpoint.th")
    torch.testing.assert_close(loaded.pop("model"), state.pop("model"))
    assert loaded == state


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.th"
    save_atomically({"epoch": 1}, path)

    def torn_write(state, file):
        file.write(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", torn_write)
    with pytest.raises(CheckpointError, match="No space left"):
        save_atomically({"epoch": 2}, path)
    assert load_state(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.th"]


def test_a_torn_file_is_named(tmp_path):
    path = tmp_path / "checkpoint.th"
    save_atomically({"w": torch.randn(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"checkpoint\.th"):
        load_state(path)


def test_a_pickle_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": Evil()}, tmp_path / "evil.th")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "evil.th")


def test_only_the_last_kept_epochs_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_every=2, keep_last=2)
    for epoch in range(1, 9):
        checkpoints.save({"epoch": epoch}, epoch)
    assert [p.name for p in checkpoints.of_epochs()] == ["checkpoint_6.th", "checkpoint_8.th"]
    assert checkpoints.load() == {"epoch": 8}


def test_without_a_last_checkpoint_the_newest_kept_one_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_last=False, save_every=1)
    for epoch in range(1, 12):
        checkpoints.save({"epoch": epoch}, epoch)
    assert checkpoints.load() == {"epoch": 11}


def test_a_run_that_saved_nothing_has_nothing(tmp_path):
    assert Checkpoints(tmp_path).load() is None
