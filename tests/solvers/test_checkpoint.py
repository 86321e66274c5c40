"""Checkpoints: what was saved comes back, and nothing torn is ever seen."""

import os
from pathlib import Path

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
    assert [p.name for p in checkpoints.epoch_checkpoints()] == [
        "checkpoint_6.th",
        "checkpoint_8.th",
    ]
    assert checkpoints.load() == {"epoch": 8}


def test_without_a_last_checkpoint_the_newest_kept_one_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_last=False, save_every=1)
    for epoch in range(1, 12):
        checkpoints.save({"epoch": epoch}, epoch)
    assert checkpoints.load() == {"epoch": 11}


def test_a_run_that_saved_nothing_has_nothing(tmp_path):
    assert Checkpoints(tmp_path).load() is None


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.th"
    save_atomically({"w": torch.randn(10_000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(path)


def damage(path):
    path.write_bytes(path.read_bytes()[:200])


def test_the_checkpoint_before_is_taken_where_the_last_is_damaged(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    for update in (1, 2, 3):
        checkpoints.save({"update": update})
    assert checkpoints.load() == {"update": 3}
    damage(checkpoints.last)
    assert checkpoints.load() == {"update": 2}
    assert "checkpoint.th is not a readable checkpoint" in caplog.text
    assert "Going on from" in caplog.text


def test_a_run_all_of_whose_checkpoints_are_damaged_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"update": 1})
    checkpoints.save({"update": 2})
    damage(checkpoints.last)
    damage(checkpoints.previous)
    with pytest.raises(CheckpointError, match=r"No checkpoint .* can be read.*--clear"):
        checkpoints.load()


@pytest.mark.parametrize("lost_at", range(6))
def test_a_power_failure_costs_one_checkpoint_at_the_most(lost_at, tmp_path, monkeypatch):
    """The power fails before the n-th step on the disk; what was not flushed is then empty."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"update": 1})
    checkpoints.save({"update": 2})
    flushed, steps = set(), [0]
    for path in tmp_path.iterdir():
        flushed.add(path.stat().st_ino)

    class PowerFailureError(BaseException):
        pass

    def counted(real, is_flush):
        def step(*args):
            if steps[0] == lost_at:
                raise PowerFailureError
            steps[0] += 1
            if is_flush:
                flushed.add(os.fstat(args[0]).st_ino)
            return real(*args)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", counted(os.fsync, True))
        patch.setattr(checkpoint.os, "replace", counted(os.replace, False))
        with pytest.raises(PowerFailureError):
            checkpoints.save({"update": 3})
    for path in tmp_path.iterdir():
        if path.stat().st_ino not in flushed:
            path.write_bytes(b"")
    state = Checkpoints(tmp_path).load()
    assert state is not None
    assert state["update"] in (2, 3)


def test_kept_epochs_may_hold_the_weights_alone(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_every=1, kept_states=["best_state"])
    state = {"best_state": {"model": {}}, "optimizer": {"state": {}}, "xp.cfg": "a: 1"}
    checkpoints.save(state, 1)
    kept = load_state(tmp_path / "checkpoint_1.th")
    assert kept == {"best_state": {"model": {}}, "xp.cfg": "a: 1"}
    Path(checkpoints.last).unlink()
    assert checkpoints.load() is None  # nothing to go on from


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="AUDIOCRAFT_DORA_DIR"):
        save_atomically({}, tmp_path / "file" / "checkpoint.th")


def test_a_damaged_checkpoint_does_not_replace_the_intact_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for update in (1, 2):
        checkpoints.save({"update": update})
    damage(checkpoints.last)
    assert checkpoints.load() == {"update": 1}
    checkpoints.save({"update": 3})
    assert load_state(checkpoints.previous) == {"update": 1}
    assert load_state(checkpoints.last) == {"update": 3}
    checkpoints.save({"update": 4})
    assert load_state(checkpoints.previous) == {"update": 3}
