"""Python programs that start at once: forked from a process that has imported their modules.

The imports of a worker take half a second of processor time, and the tests start more than a thousand
processes. A program that starts this way differs from one that a shell starts in two points only: its
``/proc/<pid>/cmdline`` is different, and files that it leaves open are not flushed when it ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from microbatch.broker.process.parent_death import parent_death

MESSAGE_BYTES = 200_000


class Forked:
    """A running program, with the part of the interface of `subprocess.Popen` that the tests use."""

    def __init__(self, preloaded: Preloaded, pid: int) -> None:
        self._preloaded = preloaded
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._preloaded.ask([], wait=self.pid))
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, sig: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                signal.pidfd_send_signal(self._pidfd, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process that programs are forked from. It starts with the first program. For a ``with`` block."""

    current: ClassVar[Preloaded | None] = None
    """The instance to use while tests run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Preloaded:
        Preloaded.current = self
        return self

    def __exit__(self, *_: object) -> None:
        Preloaded.current = None
        if self._process is not None:
            self._socket.close()  # this makes the process end
            self._process.wait()

    def start(
        self, arguments: Sequence[str], cwd: Path | None, env: Mapping[str, str], streams: Sequence[int]
    ) -> Forked:
        """Start a program for which `is_python` is true, with these standard streams."""
        request = {"arguments": list(arguments), "cwd": str(cwd or Path.cwd()), "env": dict(env)}
        return Forked(self, self.ask(streams, **request))

    def ask(self, descriptors: Sequence[int], **request: object) -> int:
        """Send a request with these descriptors, and return its answer."""
        with self._lock:
            if self._process is None:
                self._begin()
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(MESSAGE_BYTES)
        assert answer, "the process that others are forked from has ended"
        return int(answer)

    def _begin(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.preloader", str(theirs.fileno())],
                cwd=Path(__file__).parent.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
            )


def spawn(
    arguments: Sequence[str],
    streams: Sequence[int],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    fresh: bool = False,
) -> subprocess.Popen[bytes] | Forked:
    """Start a program in its own process group. It ends with this process.

    A Python program is forked, unless it must be ``fresh`` or `Preloaded` is not in use.
    """
    if Preloaded.current is not None and not fresh and is_python(arguments, env):
        return Preloaded.current.start(arguments, cwd, env, streams)
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        arguments,
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        process_group=0,  # a Ctrl-C in the terminal of the tests must not reach it
        preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
    )


def is_python(arguments: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether `Preloaded.start` can start a program with these arguments.

    A fork has the modules and the interpreter settings of its parent process.
    """
    path = env.get("PYTHONPATH", "")
    if any(folder not in sys.path for folder in path.split(os.pathsep) if folder):
        return False
    if _for_the_interpreter(env) != _for_the_interpreter(os.environ):
        return False
    if arguments[0] == sys.executable:
        return arguments[1] in ("-c", "-m") or not arguments[1].startswith("-")
    program = Path(arguments[0])
    return program.parent == Path(sys.executable).parent and _begins_with_python(program)


def _for_the_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that an interpreter reads at its start, without those that a fork can be given later."""
    later = {"PYTHONPATH", "PYTHONUNBUFFERED"}
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and name not in later
    }


def _begins_with_python(script: Path) -> bool:
    with script.open("rb") as file:
        return file.readline().rstrip() == f"#!{sys.executable}".encode()
