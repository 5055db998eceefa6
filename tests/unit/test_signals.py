"""Signals that ask a process to stop, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from microbatch.broker.process import signals as signals_module
from microbatch.broker.process.signals import NUMBERS, StopSignals
from tests.doubles import set_time
from tests.waiting import wait_until

# A signal arrives at the first line that runs after a wait began, at the second line, and so on. So it also
# arrives while the main thread holds a lock.
AT_EVERY_LINE = """
import signal, sys
from microbatch.scheduler import service
from microbatch.worker import pool

FILES = ("pool.py", "service.py", "signals.py", "threading.py")


def run(what, at):
    seen = [-1]

    def trace(frame, event, _arg):
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if seen[0] < 0 and frame.f_code.co_name == "wait":
            seen[0] = 0
        if event == "line" and seen[0] >= 0:
            seen[0] += 1
            if seen[0] == at:
                signal.raise_signal(signal.SIGTERM)
        return trace

    sys.settrace(trace)
    try:
        what.run()
    finally:
        sys.settrace(None)


for at in range(1, 40):
    if sys.argv[1] == "scheduler":
        run(service.SchedulerService([], look_seconds=0.01), at)
    else:
        run(pool.WorkerPool("no app", 0, look_seconds=0.01), at)
    print(at, flush=True)
"""


@pytest.mark.parametrize("role", ["scheduler", "pool"])
def test_a_signal_ends_a_wait_at_whatever_line_it_comes(role: str) -> None:
    program = [sys.executable, "-c", AT_EVERY_LINE, role]
    done = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(at) for at in range(1, 40)]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_them_is_noted_and_ends_a_wait(number: signal.Signals) -> None:
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.wait(60)
        assert (signals.count, signals.last) == (1, number)
        assert not signals.wait(0)


def test_a_signal_during_a_wait_ends_the_wait() -> None:
    with StopSignals() as signals:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert signals.wait(60)
        timer.join()
        assert signals.count == 1


def test_two_within_a_second_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    set_time(monkeypatch, signals_module, monotonic=lambda: now)
    with StopSignals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        assert signals.count == 1
        now += 1
        signal.raise_signal(signal.SIGTERM)
        assert signals.count == 2


def test_a_notice_from_another_thread_ends_a_wait_and_is_no_signal() -> None:
    with StopSignals() as signals:
        for _ in range(100_000):  # more than the pipe holds
            signals.notify()
        thread = threading.Thread(target=signals.notify)
        thread.start()
        assert signals.wait(60)
        thread.join()
        wait_until(lambda: not signals.wait(0))
        assert signals.count == 0


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """nohup does this."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.count == 0
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_before_are_restored() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with StopSignals():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fork_ends_by_them_as_any_program_does(number: signal.Signals) -> None:
    with StopSignals() as signals:
        signals.end_in_forks()
        child = os.fork()
        if child == 0:
            os.close(2)  # where Python would report a KeyboardInterrupt
            try:
                signal.raise_signal(number)
            finally:
                os._exit(77 if number == signal.SIGINT else 99)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (77 if number == signal.SIGINT else -number)
    assert signals.count == 0
