"""`microbatch run`: a program with everything that it needs, which ends with the program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.processes import is_alive, script
from tests.servers import RealServer
from tests.waiting import wait_until

_SOCKET = re.compile(r"unixsocket:(/.*)/socket")

# Waits for a signal, and prints which one it got.
WAITING = """\
import signal, sys, time
from microbatch.producer import Config

config = Config(name="waiting", batch_processor=len)

def tell(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(7)

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    print("waiting", flush=True)
    while True:
        time.sleep(60)
"""


def test_it_runs_without_a_standard_output(tmp_path: Path, letters: str) -> None:
    command = f"exec {shlex.quote(script('microbatch'))} run {letters} ab >&-"
    run = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_program_runs_against_a_server_a_scheduler_and_workers(command: Command, letters: str) -> None:
    run = command("microbatch", "run", letters, "abdabba")
    assert run.wait() == 0, run.output
    assert sorted(run.stdout) == ["batch total 1", "batch total 5", "batch total 7"]
    assert run.stderr == []


def test_standard_input_is_the_program_s(command: Command, letters: str) -> None:
    run = command("microbatch", "run", "--workers", "1", letters, stdin="abd\n")
    assert run.wait() == 0, run.output
    assert run.stdout == ["batch total 7"]


def test_a_module_is_run_as_one(command: Command, letters: str) -> None:
    run = command("microbatch", "run", "--workers", "1", "letters:config", "ab")
    assert run.wait() == 0, run.output
    assert run.stdout == ["batch total 3"]


def test_the_program_s_exit_code_is_the_command_s(command: Command, tmp_path: Path) -> None:
    app = "import sys\nfrom microbatch.producer import Config\n"
    app += "config = Config(name='x', batch_processor=len)\nif __name__ == '__main__':\n    sys.exit(3)\n"
    (tmp_path / "app.py").write_text(app)
    assert command("microbatch", "run", "--workers", "1", "app.py").wait() == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_program_and_ends_all(
    command: Command, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    run = command("microbatch", "run", "--workers", "1", "waiting.py")
    run.wait_for_line("^waiting$")
    family = run.children()
    run.send(number)
    assert run.wait() == 7
    assert run.stdout == ["waiting", f"got {number.name}"]
    assert run.stderr == []
    wait_until(lambda: not any(map(is_alive, family)))


def test_a_kill_leaves_nothing_alive(command: Command, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    run = command("microbatch", "run", "waiting.py")
    run.wait_for_line("^waiting$")
    family = run.children()
    assert (
        len(family) == 7
    )  # the server, the scheduler, the pool, its fork server and two workers, the program
    (folder,) = {match[1] for pid in family if (match := _SOCKET.search(_command_of(pid).decode()))}
    run.kill()
    wait_until(lambda: not any(map(is_alive, family)))
    shutil.rmtree(folder)  # nobody was left to do this


def test_a_server_that_is_set_is_used(command: Command, letters: str, valkey_server: RealServer) -> None:
    run = command("microbatch", "run", "--workers", "1", letters, "abd", url=valkey_server.url)
    assert run.wait() == 0, run.output
    assert run.stdout == ["batch total 7"]
    used, risk = run.stderr
    assert used == f"microbatch run: using the server at {valkey_server.url}, as redis_url is set"
    assert "WARNING letters: there is no append-only file" in risk
    assert valkey_server.admin.hget("mb:{letters}:stats", "done_events") == b"3"


def test_it_tells_what_goes_with_its_server(command: Command, tmp_path: Path) -> None:
    app = "from microbatch.producer import Config, start\n"
    app += "config = Config(name='x', batch_processor=len, frequency=3_600_000)\n"
    app += "if __name__ == '__main__':\n    mb = start(config)\n    mb.record_events(['a', 'b', 'c'])\n"
    (tmp_path / "app.py").write_text(app)
    run = command("microbatch", "run", "--workers", "1", "app.py")
    assert run.wait() == 0
    assert run.stderr == [
        (
            "microbatch run: 3 events or results were not dealt with when the program ended, "
            "and are gone with its server"
        )
    ]


def test_a_worker_that_dies_is_replaced(command: Command, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    run = command("microbatch", "run", "--workers", "1", "--log-level", "info", "waiting.py")
    run.wait_for_line("^waiting$")
    _pool, _fork_server, worker = [pid for pid in run.children() if b"worker" in _command_of(pid)]
    os.kill(worker, signal.SIGKILL)
    run.wait_for_line(rf"worker {worker} ended with signal SIGKILL; starting another")
    run.terminate()
    assert run.wait() == 7


def test_a_scheduler_that_dies_ends_all_with_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    run = command("microbatch", "run", "--workers", "1", "waiting.py")
    run.wait_for_line("^waiting$")
    family = run.children()
    (scheduler,) = [pid for pid in family if b"scheduler" in _command_of(pid)]
    os.kill(scheduler, signal.SIGKILL)
    assert run.wait() == 2
    assert run.stderr == ["microbatch: error: the scheduler of waiting.py has ended with signal 9"]
    wait_until(lambda: not any(map(is_alive, family)))


def _command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
