"""``python -m tests.preloader``: the process from which `tests.preloaded` forks programs.

It has only one thread.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from microbatch.broker.process.parent_death import die_with_parent
from tests.preloaded import MESSAGE_BYTES

_MODULES = (
    "microbatch.ops.cli",
    "microbatch.scheduler.service",
    "microbatch.worker.pool",
    "microbatch.worker.rq.worker",
    "rq.cli",
)


def main(channel: socket.socket) -> dict[str, Any] | None:
    """Serve requests: fork and send the pid, or send how a fork ended.

    Returns the program to run in a fork, and None in the parent at the end.
    """
    parent = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 3)
        if not message:
            return None
        request = json.loads(message)
        if "wait" in request:
            _, answer = os.waitpid(request["wait"], 0)
        elif answer := os.fork():
            with suppress(ProcessLookupError, PermissionError):
                os.setpgid(answer, 0)  # before anybody can send it a signal
        else:
            channel.close()
            _take_over(request, descriptors, parent)
            return dict(request)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(b"%d" % answer)


def _take_over(request: Mapping[str, Any], descriptors: Sequence[int], parent: int) -> None:
    """Become the process that was asked for, in everything that is visible from outside."""
    os.setpgid(0, 0)
    die_with_parent(signal.SIGKILL, parent)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin = _text(0, "r")
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w", errors="backslashreplace")
    os.chdir(request["cwd"])
    sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]


def _text(descriptor: int, mode: str, errors: str = "strict") -> io.TextIOWrapper:
    """A standard stream, made as the interpreter makes it."""
    unbuffered = mode == "w" and bool(os.environ.get("PYTHONUNBUFFERED"))
    binary: Any = os.fdopen(descriptor, f"{mode}b", 0 if unbuffered else -1, closefd=False)
    return io.TextIOWrapper(binary, errors=errors, write_through=unbuffered)


def run(arguments: Sequence[str]) -> NoReturn:
    """Run a program as ``__main__``. This process ends with it.

    The process skips the interpreter's teardown, which writes to all memory that it shares with other
    processes. Teardown takes three quarters of the time of a short program.
    """
    code = 0
    try:
        _run(arguments)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):  # let the interpreter handle it
                sys.exit(code)
    os._exit(code & 0xFF)


def _run(arguments: Sequence[str]) -> None:
    first, *words = arguments[1:] if arguments[0] == sys.executable else arguments
    if first == "-m":
        sys.argv, sys.path[0] = words, str(Path.cwd())
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        source, *words = words
        sys.argv, sys.path[0] = ["-c", *words], ""
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(source, "<string>", "exec"), module.__dict__)  # noqa: S102 - as python -c does
    else:
        sys.argv, sys.path[0] = [first, *words], str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


def preload() -> None:
    """Import the modules that the programs need."""
    for name in _MODULES:
        importlib.import_module(name)
    commands = importlib.import_module("microbatch.ops.commands")
    for found in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{found.name}")
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not copy every page


if __name__ == "__main__":
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        wanted = main(asked)
    if wanted is not None:
        run(wanted["arguments"])
