"""Lock on an experiment's folder: one run at a time, shared by its processes."""

import json
import os
import socket

from audiocraft.errors import ConfigError
from audiocraft.solvers.run_lock import LOCK_FILE, RunLock


def in_child(function) -> int:
    """Exit status of `function` in a forked process: 3 if it raised a `ConfigError`."""
    child = os.fork()
    if not child:
        status = 1
        try:
            function()
            status = 0
        except ConfigError as error:
            print(error, flush=True)
            status = 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_second_run_raises_and_names_the_first(tmp_path, capfd):
    lock = RunLock(tmp_path)
    assert in_child(lambda: RunLock(tmp_path)) == 3
    message = capfd.readouterr().out
    assert f"process {os.getpid()} on {socket.gethostname()}" in message
    lock.release()
    assert in_child(lambda: RunLock(tmp_path)) == 0


def test_lock_of_a_dead_process_is_taken_over(tmp_path):
    assert in_child(lambda: RunLock(tmp_path)) == 0  # ends without releasing it
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] != os.getpid()
    RunLock(tmp_path).release()
    assert (tmp_path / LOCK_FILE).read_text() == ""


def test_processes_of_one_run_share_the_lock_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    lock = RunLock(tmp_path)
    assert in_child(lambda: RunLock(tmp_path, rank=1)) == 0
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert in_child(lambda: RunLock(tmp_path, rank=1)) == 3
    lock.release()
    assert in_child(lambda: RunLock(tmp_path, rank=1)) == 0


def test_process_that_has_ended_holds_no_lock(tmp_path):
    lock = RunLock(tmp_path)
    holder = json.loads((tmp_path / LOCK_FILE).read_text()) | {"pid": 2**22 + 1, "run": "other"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(holder))
    RunLock(tmp_path, rank=1)
    lock.release()
