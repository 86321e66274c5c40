"""Checkpoints: atomic writes, verified reads, best weights."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from audiocraft.errors import CheckpointError
from audiocraft.solvers import checkpoint
from audiocraft.solvers.checkpoint import BestState, Checkpoints, load_state, save_atomically

from ..fork_server import forked_python


def test_checkpoint_round_trip(tmp_path):
    state = {
        "model": {"w": torch.arange(3.0)},
        "history": [{"valid": {"ce": 1.5}}],
        "xp.cfg": "a: 1",
    }
    save_atomically(state, tmp_path / "checkpoint.th")
    loaded = load_state(tmp_path / "checkpoint.th")
    torch.testing.assert_close(loaded.pop("model"), state.pop("model"))
    assert loaded == state


def test_failed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.th"
    save_atomically({"epoch": 1}, path)

    def interrupted_write(state, file):
        file.write(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", interrupted_write)
    with pytest.raises(CheckpointError, match="No space left"):
        save_atomically({"epoch": 2}, path)
    assert load_state(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.th"]


def test_truncated_file_raises_with_its_path(tmp_path):
    path = tmp_path / "checkpoint.th"
    save_atomically({"w": torch.randn(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"checkpoint\.th"):
        load_state(path)


def test_pickle_with_code_raises(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": Evil()}, tmp_path / "evil.th")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "evil.th")


def test_only_the_last_epoch_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_every=2, keep_last=2)
    for epoch in range(1, 9):
        checkpoints.save({"epoch": epoch}, epoch)
    assert [p.name for p in checkpoints.epoch_checkpoints()] == [
        "checkpoint_6.th",
        "checkpoint_8.th",
    ]
    assert checkpoints.load() == {"epoch": 8}


def test_without_a_last_checkpoint_the_newest_epoch_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_last=False, save_every=1)
    for epoch in range(1, 12):
        checkpoints.save({"epoch": epoch}, epoch)
    assert checkpoints.load() == {"epoch": 11}


def test_without_checkpoints_nothing_is_loaded(tmp_path):
    assert Checkpoints(tmp_path).load() is None


def test_flipped_bit_raises(tmp_path):
    path = tmp_path / "checkpoint.th"
    save_atomically({"w": torch.randn(10_000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(path)


def damage(path):
    path.write_bytes(path.read_bytes()[:200])


def test_previous_checkpoint_replaces_a_damaged_one(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    for update in (1, 2, 3):
        checkpoints.save({"update": update})
    assert checkpoints.load() == {"update": 3}
    damage(checkpoints.last)
    assert checkpoints.load() == {"update": 2}
    assert "checkpoint.th is not a readable checkpoint" in caplog.text
    assert "Resuming from" in caplog.text


def test_all_damaged_checkpoints_raise(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"update": 1})
    checkpoints.save({"update": 2})
    damage(checkpoints.last)
    damage(checkpoints.previous)
    with pytest.raises(CheckpointError, match=r"No checkpoint .* can be read.*--clear"):
        checkpoints.load()


@pytest.mark.parametrize("lost_at", range(6))
def test_power_failure_costs_one_checkpoint_at_most(lost_at, tmp_path, monkeypatch):
    """The power fails before the n-th operation on the disk; files not flushed are then empty."""
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


def test_epoch_checkpoints_may_contain_a_subset(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_every=1, kept_states=["best_state"])
    state = {"best_state": {"model": {}}, "optimizer": {"state": {}}, "xp.cfg": "a: 1"}
    checkpoints.save(state, 1)
    kept = load_state(tmp_path / "checkpoint_1.th")
    assert kept == {"best_state": {"model": {}}, "xp.cfg": "a: 1"}
    Path(checkpoints.last).unlink()
    assert checkpoints.load() is None  # a run cannot resume from a subset


def test_folder_without_write_permission_raises(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="AUDIOCRAFT_DORA_DIR"):
        save_atomically({}, tmp_path / "file" / "checkpoint.th")


def test_damaged_checkpoint_does_not_replace_the_previous_one(tmp_path):
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


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from audiocraft.solvers.checkpoint import save_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
save_atomically({"w": torch.zeros(1 << 20)}, Path(sys.argv[1]))
"""


@pytest.mark.integration
def test_full_disk_raises_with_its_cause(tmp_path):
    run = subprocess.run(
        [forked_python(), "-c", FULL_DISK, str(tmp_path / "checkpoint.th")],
        capture_output=True,
        text=True,
        check=False,
    )
    message = run.stderr.strip().splitlines()[-1]
    assert "CheckpointError: The checkpoint" in message
    assert "File too large" in message
    assert "enforce fail" not in message
    assert list(tmp_path.iterdir()) == []


def test_best_weights_are_copied():
    best, weight = BestState(), torch.zeros(2)
    assert best.update(2.0, {"w": weight})
    assert not best.update(3.0, {"w": weight + 1})
    weight += 5  # later training must not change the copy
    torch.testing.assert_close(best.model["w"], torch.zeros(2))
    assert best.update(1.0, {"w": weight})
    torch.testing.assert_close(best.model["w"], torch.full((2,), 5.0))


def test_best_state_survives_a_checkpoint():
    best, other = BestState(), BestState()
    best.update(1.0, {"w": torch.ones(1)})
    other.load_state_dict(best.state_dict())
    assert not other.update(1.5, {"w": torch.zeros(1)})
    torch.testing.assert_close(other.model, best.model)
