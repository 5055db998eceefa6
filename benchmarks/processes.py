"""The processes of a benchmark. They end with it, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from microbatch.broker.process.parent_death import parent_death
from tests.servers import RealServer

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
PEERS_PYTHON = str(ROOT / ".venv-bench" / "bin" / "python")
PATIENCE_SECONDS = 120.0


@contextmanager
def server() -> Iterator[RealServer]:
    """A Valkey for one system, in memory only, reached over TCP on the loopback interface."""
    with tempfile.TemporaryDirectory(prefix="mb-bench-") as folder:
        found = RealServer("valkey", Path(folder), tcp=True)
        with found:
            yield found


def clear(client: redis.Redis) -> None:
    """Remove all data of a server, and return when its memory is free, which otherwise takes a while."""
    client.execute_command("FLUSHALL", "SYNC")


@contextmanager
def environment(**changes: str | int) -> Iterator[None]:
    """Set these environment variables for processes that are started in the block."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update({name: str(value) for name, value in changes.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(
    command: Sequence[str], variables: Mapping[str, str | int], **options: Any
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        text=True,
        process_group=0,
        preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
        **options,
    )


@contextmanager
def running(*command: str, **variables: str | int) -> Iterator[subprocess.Popen[str]]:
    """Run a process for the duration of the block. Its stderr is that of the benchmark."""
    process = _start(command, variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Program:
    """A program that reads lines and answers with lines. It writes one when it is ready."""

    def __init__(self, *command: str, **variables: str | int) -> None:
        self._process = _start(command, variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} has ended"
        return line

    def end(self) -> None:
        """Close its input, and wait until it has ended. Kills it if that takes too long."""
        try:
            self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


class Producer(Program):
    """A program that gets ready, records when it is told to, and then reports when it began and ended.

    Its times are from the monotonic clock, which all processes share.
    """

    def go(self) -> None:
        """Tell the program to record."""
        self.tell("go")

    def moments(self) -> tuple[float, float]:
        """When the program began and ended recording."""
        begun, ended = json.loads(self.read())
        self.end()
        return begun, ended


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Check the condition every few milliseconds. Raises TimeoutError if it does not become true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:g} s in vain for {what}")
        time.sleep(0.005)
