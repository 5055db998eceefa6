from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from microbatch.broker.process import parent_death as module
from microbatch.broker.process.parent_death import die_with_parent, parent_death
from tests.processes import Process, end_process, is_alive
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children on Linux only")

MIDDLE = """
import signal, subprocess, time
from microbatch.broker.process.parent_death import parent_death
child = subprocess.Popen(["sleep", "600"], preexec_fn=parent_death(signal.{name}))
print("child", child.pid, flush=True)
time.sleep(600)
"""

# Its parent does not wait for it to make the request, so the request comes too late.
ORPHAN = """
import os, signal, time
from microbatch.broker.process.parent_death import die_with_parent
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.001)
    print("orphan", os.getpid(), flush=True)
    die_with_parent(signal.SIGKILL, parent)
    print("still here", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_child_ends_with_a_parent_that_was_killed(name: str) -> None:
    with Process([sys.executable, "-c", MIDDLE.format(name=name)]) as parent:
        child = int(parent.wait_for_line(r"child (\d+)")[1])
        try:
            assert is_alive(child)
            parent.kill()
            wait_until(lambda: not is_alive(child), message="the child's end")
        finally:
            end_process(child)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    with Process([sys.executable, "-c", ORPHAN]) as parent:
        orphan = int(parent.wait_for_line(r"orphan (\d+)")[1])
        try:
            wait_until(lambda: not is_alive(orphan), message="the orphan's end")
        finally:
            end_process(orphan)
    assert "still here" not in parent.output


def test_the_signal_asked_for_is_what_the_kernel_has_noted() -> None:
    program = """
import ctypes, os, signal
from microbatch.broker.process.parent_death import die_with_parent
die_with_parent(signal.SIGUSR1, os.getppid())
noted = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(noted))
assert noted.value == signal.SIGUSR1, noted
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_child_does_not_start_with_its_parents_handlers() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        child = subprocess.Popen(["sleep", "600"], preexec_fn=parent_death(signal.SIGTERM))  # noqa: PLW1509
    finally:
        signal.signal(signal.SIGTERM, before)
    child.terminate()
    assert child.wait(10) == -signal.SIGTERM


def test_a_refusal_of_the_kernel_is_an_error() -> None:
    with pytest.raises(OSError, match="PR_SET_PDEATHSIG"):
        die_with_parent(9999, os.getppid())  # type: ignore[arg-type]


def test_where_there_is_no_prctl_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libc", None)
    die_with_parent(signal.SIGKILL, parent_pid=-1)
