"""Signals: recorded, and jobs requeued."""

import os
import signal
import stat

import pytest

from audiocraft.solvers import signals
from audiocraft.solvers.signals import StopSignals, exit_status


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_signal_is_recorded_and_does_not_interrupt(signum):
    with StopSignals() as stop:
        assert stop.received == 0
        send(signum)
        assert stop.received == signum


def test_second_ctrl_c_stops_at_once():
    with StopSignals() as stop:
        send(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_former_handlers_are_restored():
    before = [signal.getsignal(s) for s in (*signals.STOP, *signals.REQUEUE)]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(s) for s in (*signals.STOP, *signals.REQUEUE)] == before


def test_handler_of_the_scheduler_is_called_after_saving(monkeypatch):
    monkeypatch.setattr(signals, "WAIT_FOR_REQUEUE", 0)
    called = []
    old = signal.signal(signal.SIGUSR2, lambda signum, frame: called.append(signum))
    try:
        with StopSignals() as stop:
            send(signal.SIGUSR2)
            assert called == []
            stop.requeue(stop.received, rank=0)
            assert called == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, old)


@pytest.mark.parametrize(("rank", "expected"), [(0, ["requeue 42"]), (1, [])])
def test_other_slurm_jobs_are_requeued_once(rank, expected, monkeypatch, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(signals, "WAIT_FOR_REQUEUE", 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    with StopSignals() as stop:
        stop.requeue(signal.SIGUSR1, rank)
    called = tmp_path / "called"
    assert (called.read_text().split("\n")[:-1] if called.exists() else []) == expected


def test_ctrl_c_and_sigterm_do_not_requeue(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setattr(signals, "_requeue_job", lambda job: pytest.fail("requeued"))
    with StopSignals() as stop:
        stop.requeue(signal.SIGTERM, rank=0)
        stop.requeue(signal.SIGINT, rank=0)


def test_exit_status_is_that_of_a_shell():
    assert exit_status(signal.SIGINT) == 130
    assert exit_status(signal.SIGTERM) == 143
