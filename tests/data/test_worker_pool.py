import ctypes
import os
import time

import pytest

from audiocraft.data.worker_pool import map_in_workers
from audiocraft.errors import AudioError


def act_by_name(path: str, prefix: str = "") -> str:
    """Crash, exit, hang or raise, selected by the path; otherwise return it in upper case."""
    if path == "crash":
        ctypes.string_at(0)
    if path == "exit":
        os._exit(3)
    if path == "hang":
        time.sleep(60)
    if path == "wrong":
        raise AudioError("wrong is wrong.")
    if path == "bug":
        raise ZeroDivisionError
    return prefix + path.upper()


def test_results_are_ordered_and_contain_errors():
    paths = ["a", "wrong", "b"] * 10
    results = list(map_in_workers(act_by_name, paths, 0, prefix="<"))
    assert [str(result) for result in results] == ["<A", "wrong is wrong.", "<B"] * 10


@pytest.mark.integration
def test_crashes_and_timeouts_are_reported_and_other_tasks_continue():
    paths = ["a", "crash", "wrong", "exit", "hang", *"bcdefghijk"]
    a, crash, wrong, exit, hang, *others = map_in_workers(
        act_by_name, paths, 2, time_limit=1.0, prefix=">"
    )
    assert a == ">A"
    assert str(crash).startswith("crash crashes ")
    assert str(wrong) == "wrong is wrong."
    assert "exit crashes" in str(exit)
    assert str(hang).startswith("hang could not be decoded within 1 s")
    assert all(isinstance(error, AudioError) for error in (crash, exit, hang))
    assert others == [f">{letter}" for letter in "BCDEFGHIJK"]


@pytest.mark.integration
def test_programming_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        list(map_in_workers(act_by_name, ["a", "bug"], 1))
