"""The first process of a container: no signal is lost, however early it comes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.processes import Process, descendants, script
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a pid namespace is made by root alone"
)


def first_process(arguments: list[str], url: str, cwd: Path, stdin: str | None = None) -> Process:
    """A command that is the process with pid 1 of a namespace of its own."""
    words = ["unshare", "--pid", "--fork", "--kill-child", script("microbatch"), *arguments]
    return Process(words, cwd=cwd, env={"MICROBATCH_REDIS_URL": url}, stdin=stdin, fresh=True)


def terminate_the_first(process: Process, sig: signal.Signals, after: float) -> None:
    """Send a signal to the process with pid 1, so long after Python began in it."""
    wait_until(lambda: descendants(process.pid))
    time.sleep(after)
    os.kill(descendants(process.pid)[0], sig)


@pytest.mark.parametrize("after", [0.15, 0.3, 0.6, 1.5])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "arguments", [["scheduler", "letters.py"], ["worker", "letters.py"], ["status", "letters", "--watch"]]
)
def test_a_signal_ends_the_first_process(
    tmp_path: Path,
    letters: str,
    valkey_server: RealServer,
    *,
    arguments: list[str],
    sig: signal.Signals,
    after: float,
) -> None:
    with first_process(arguments, valkey_server.url, tmp_path) as process:
        terminate_the_first(process, sig, after)
        assert process.wait(15) in (0, 128 + sig)


def test_a_command_that_has_no_handlers_is_ended(tmp_path: Path, valkey_server: RealServer) -> None:
    """As `record`, which waits for a pipe that nobody writes to."""
    fifo = tmp_path / "events"
    os.mkfifo(fifo)
    keep = os.open(fifo, os.O_RDWR)
    with first_process(["record", "letters", "--create", str(fifo)], valkey_server.url, tmp_path) as process:
        terminate_the_first(process, signal.SIGTERM, 1.5)
        assert process.wait(10) == 128 + signal.SIGTERM
    os.close(keep)
