"""Runs the app's own program in the foreground of `microbatch run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from microbatch.broker.app.loading import app_file
from microbatch.broker.process.parent_death import parent_death
from microbatch.ops.local.stack import end

_LOOK_SECONDS = 0.2
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Program:
    """One run of an app's own program: its file, or its module with ``python -m``."""

    def __init__(self, app: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        file = app_file(app)
        what = ["-m", app.partition(":")[0]] if file is None else [str(file)]
        self._command = [sys.executable, *what, *arguments]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def run(self, *, check: Callable[[], None]) -> int:
        """Run it to its end. Returns its exit code, or 128 plus the signal's number if a signal ended it.

        SIGINT, SIGTERM and SIGHUP are passed on to it. ``check`` is called now and then. If it raises, the
        program is ended, and this raises the error.
        """
        with self._passing_on():
            process = self._process = self._start()
            for number in self._early:
                process.send_signal(number)
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        code = process.wait(_LOOK_SECONDS)
                        return code if code >= 0 else 128 - code
                    check()
            finally:
                if process.poll() is None:
                    end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the user's own program is what this is for
            self._command,
            env=self._environment,
            # With a terminal it stays in the process group that may read from it, and Ctrl-C reaches it
            # directly. Without one it has its own group, and gets signals only from us.
            process_group=None if os.isatty(0) else 0,
            preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
        )

    @contextmanager
    def _passing_on(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in _PASSED_ON}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        elif number != signal.SIGINT or not _is_foreground():
            self._process.send_signal(number)


def hiding_modules(app: str) -> list[str]:
    """Files beside a program that hide modules of Python's library that Microbatch needs.

    The program imports them instead, because Python puts its folder first on the import path.
    """
    file = app_file(app)
    folder = Path.cwd() if file is None else file.resolve().parent
    needed = sys.stdlib_module_names & sys.modules.keys()
    return sorted(str(path) for path in folder.glob("*.py") if path.stem in needed)


def _is_foreground() -> bool:
    """Whether a Ctrl-C at our terminal reaches the program directly."""
    return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
