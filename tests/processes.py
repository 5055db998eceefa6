"""Commands run as a user runs them: as separate processes, whose output is read as it arrives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.preloaded import spawn
from tests.waiting import wait_until

SCRIPTS = Path(sys.executable).parent


def script(name: str) -> str:
    """The path of the command ``name``, such as ``microbatch`` or ``rq``, in the environment of the tests."""
    path = SCRIPTS / name
    assert path.exists(), f"{path} is missing: install the project into this environment"
    return str(path)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a user who has no Microbatch settings, plus ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MICROBATCH_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "120", **(extra or {})}


class Process:
    """A running command. It ends with the tests, however they end.

    A Python program is forked from a process that has already imported its modules, unless it is ``fresh``.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.arguments = list(arguments)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.lines: list[str] = []  # stdout and stderr, in the order of arrival
        self._streams: list[IO[str]] = []
        self._threads: list[threading.Thread] = []
        theirs = [
            os.open(os.devnull, os.O_RDONLY) if stdin is None else self._pipe_to(stdin),
            self._pipe_from(self.stdout),
            self._pipe_from(self.stderr),
        ]
        try:
            self._popen = spawn(self.arguments, theirs, cwd=cwd, env=clean_environment(env), fresh=fresh)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        return f"<{' '.join([Path(self.arguments[0]).name, *self.arguments[1:]])}, pid {self.pid}>"

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has written to stdout and stderr so far."""
        return "\n".join(self.lines)

    def wait(self, timeout: float = 60) -> int:
        """Wait until it has ended and all its output was read, and return its exit code."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} runs after {timeout:g} s; it wrote:\n{self.output}") from None
        for thread in self._threads:
            # Not for ever: a surviving grandchild may still have the pipe open.
            thread.join(2)
        return code

    def wait_for_line(self, pattern: str, timeout: float = 60, *, since: int = 0) -> re.Match[str]:
        """The first match of ``pattern`` in a line of its output, from line ``since`` of ``lines`` on.

        Raises AssertionError with the output if no line matches in time, or if the process ends first.
        """
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            ended = not self.running and not any(thread.is_alive() for thread in self._threads)
            match = next(filter(None, map(expression.search, self.lines[since:])), None)
            assert match or not ended, f"{self!r} ended without {pattern!r}; it wrote:\n{self.output}"
            return match

        match = wait_until(found, timeout, lambda: f"{pattern!r} from {self!r}; it wrote:\n{self.output}")
        assert match is not None
        return match

    def send(self, sig: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._popen.send_signal(sig)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does, to this process only."""
        self.send(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()

    def children(self) -> list[int]:
        """The pids of all its descendants."""
        return descendants(self.pid)

    def workers(self) -> list[int]:
        """The pids of the workers of a pool: the children of its fork server."""
        return descendants(self.pid)[1:]

    def end(self) -> None:
        """Kill it and all its descendants, whatever state they are in, and close its output."""
        family = self.children() if self.running else []
        self.kill()
        for pid in family:
            end_process(pid)
        for thread in self._threads:
            thread.join(5)
        for stream in self._streams:
            with suppress(BrokenPipeError):
                stream.close()

    def _pipe_from(self, lines: list[str]) -> int:
        """The end that the process writes to."""
        ours, theirs = os.pipe()
        stream = os.fdopen(ours, errors="replace")
        self._attend(stream, self._read, lines)
        return theirs

    def _pipe_to(self, text: str) -> int:
        """The end that the process reads from."""
        theirs, ours = os.pipe()
        self._attend(os.fdopen(ours, "w"), self._write, text)
        return theirs

    def _attend(self, stream: IO[str], target: Callable[..., None], argument: object) -> None:
        self._streams.append(stream)
        self._threads.append(threading.Thread(target=target, args=(stream, argument), daemon=True))

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            self.lines.append(line.rstrip("\n"))

    def _write(self, stream: IO[str], text: str) -> None:
        try:
            stream.write(text)
            stream.close()
        except BrokenPipeError:
            return  # it ended before it had read everything


def descendants(pid: int) -> list[int]:
    """The pids of a process's children, their children, and so on. Linux only."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            parents[int(entry.name)] = parent
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def is_alive(pid: int) -> bool:
    """Whether the process runs. A process that has ended but was not reaped does not run. Linux only."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_process(pid: int) -> None:
    """Send SIGKILL to a process that a test has started. It may already be gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _parent(entry: Path) -> int | None:
    try:
        status = (entry / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has ended
    match = re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)
    return int(match[1]) if match else None
