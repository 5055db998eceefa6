"""The first process of a container: no signal is lost, however early it arrives."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.processes import Process, descendants, script
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a pid namespace is made by root alone"
)

_SIGNALS = pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
_HELD = """
import time
from pathlib import Path

Path("held").touch()
time.sleep(60)
"""


def first_process(
    arguments: list[str], url: str, cwd: Path, *, stdin: str | None = None, modules: Path | None = None
) -> Process:
    """Run a command as the process with pid 1 of its own namespace."""
    words = ["unshare", "--pid", "--fork", "--kill-child", script("microbatch"), *arguments]
    env = {"MICROBATCH_REDIS_URL": url} | ({"PYTHONPATH": str(modules)} if modules is not None else {})
    return Process(words, cwd=cwd, env=env, stdin=stdin, fresh=True)


def kill_first(process: Process, sig: signal.Signals) -> None:
    """Send a signal to the process with pid 1."""
    os.kill(descendants(process.pid)[0], sig)


def assert_ends_while_held(process: Process, sig: signal.Signals, cwd: Path) -> None:
    """A signal ends the process while it imports a module that does not return."""
    wait_for_file(cwd / "held")
    kill_first(process, sig)
    assert process.wait(15) == 128 + sig


def wait_for_file(path: Path, lines: int = 0) -> None:
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= lines)


@_SIGNALS
def test_a_signal_ends_it_while_it_imports_its_first_library(
    tmp_path: Path, valkey_server: RealServer, sig: signal.Signals
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "click.py").write_text(_HELD)
    with first_process(["status"], valkey_server.url, tmp_path, modules=modules) as process:
        assert_ends_while_held(process, sig, tmp_path)


@_SIGNALS
@pytest.mark.parametrize("command", ["scheduler", "worker"])
def test_a_signal_ends_it_while_it_imports_the_app(
    tmp_path: Path, valkey_server: RealServer, *, command: str, sig: signal.Signals
) -> None:
    (tmp_path / "held.py").write_text(_HELD)
    with first_process([command, "held.py"], valkey_server.url, tmp_path) as process:
        assert_ends_while_held(process, sig, tmp_path)


@_SIGNALS
@pytest.mark.parametrize("command", ["scheduler", "worker"])
def test_a_signal_ends_it_when_it_is_up(
    tmp_path: Path, valkey_server: RealServer, letters: str, *, command: str, sig: signal.Signals
) -> None:
    app = tmp_path / letters
    app.write_text(app.read_text() + '\nwith open("imports", "a") as file:\n    file.write("another\\n")\n')
    with first_process([command, letters], valkey_server.url, tmp_path) as process:
        if command == "scheduler":
            process.wait_for_line("active")
        else:
            wait_for_file(tmp_path / "imports", lines=2)  # the worker imports it itself
        kill_first(process, sig)
        assert process.wait(15) == 0


@_SIGNALS
def test_a_signal_ends_a_view_that_goes_on(
    tmp_path: Path, valkey_server: RealServer, letters: str, sig: signal.Signals
) -> None:
    with first_process(["status", letters, "--watch"], valkey_server.url, tmp_path) as process:
        process.wait_for_line("letters")
        kill_first(process, sig)
        assert process.wait(15) == 128 + sig


def test_a_command_that_has_no_handlers_is_ended(tmp_path: Path, valkey_server: RealServer) -> None:
    """`record`, for example, waits for a pipe to which nobody writes."""
    fifo = tmp_path / "events"
    os.mkfifo(fifo)
    with (
        first_process(["record", "letters", "--create", str(fifo)], valkey_server.url, tmp_path) as process,
        fifo.open("w"),  # this returns as soon as the command reads the pipe
    ):
        kill_first(process, signal.SIGTERM)
        assert process.wait(15) == 128 + signal.SIGTERM
