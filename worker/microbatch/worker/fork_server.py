"""The fork server: a process of a pool that has imported all that a worker needs, and forks the workers.

So a worker starts in about ten milliseconds, and shares the memory of those imports with the others. The
server is forked from the pool's process before the pool imports the app or starts a thread. The server does
neither, so nothing that an app opens or starts on import is shared between workers. The fork server of
Python's ``multiprocessing`` works in the same way.

The pool sends requests over a socket. Each request carries two descriptors: the slot of the new worker, and
the writing end of a pipe into which the server writes the worker's exit code. The reply is the worker's pid.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, set_start_method
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import NoReturn

from microbatch.broker.process.ending import end_fork_with
from microbatch.broker.process.parent_death import die_with_parent
from microbatch.broker.process.signals import NUMBERS
from microbatch.worker.membership import join_pool
from microbatch.worker.process import main

log = logging.getLogger(__name__)

_fork = get_context("fork")
_NAME = "MainProcess"  # as in a program: apps and their logs use the name to recognize their own children
_DEFAULTS = {signal.SIGINT: signal.default_int_handler}  # Python's handler; other signals have the system's

_NUMBER = struct.Struct("=i")
_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_LOOK_SECONDS = 1.0  # how soon the end is seen of a worker whose own children hold its sentinel open


class Forked:
    """A worker process, as the pool sees it.

    Args:
        pid: its process.
        ending: the reading end of the pipe for its exit code.
    """

    def __init__(self, pid: int, ending: int) -> None:
        os.set_blocking(ending, False)
        self.pid = pid
        self._ending = ending
        self._lock = threading.Lock()
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal's number; None while it runs. May be called on any thread."""
        with self._lock, suppress(BlockingIOError):
            if self._code is None:
                said = os.read(self._ending, _NUMBER.size)
                # If nothing was written, the server has ended, and its workers were killed with it.
                self._code = _NUMBER.unpack(said)[0] if said else -signal.SIGKILL
                os.close(self._ending)
        return self._code

    def wait(self, seconds: float) -> int | None:
        """Wait for its end. Returns its exit code; None if that takes longer than ``seconds``."""
        end_at = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end_at:
            time.sleep(_PAUSE_SECONDS)
        return self.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """The pool's side. Make it on the main thread, before the app is imported or a thread is started.

    Args:
        app: the app whose batches the workers run.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._socket, theirs = socket.socketpair()
        pool_pid = os.getpid()
        with theirs, _stop_signals_blocked():
            self._pid = os.fork()
            if self._pid == 0:
                self._socket.close()
                _serve_to_the_end(theirs, app, pool_pid)
        self._socket.settimeout(_ANSWER_SECONDS)

    def fork(self, slot: int) -> Forked:
        """Start a worker that notes its claims in the slot with this descriptor.

        A server that does not answer is replaced by another. Its workers end with it.

        Raises OSError if the system can't start another process.
        """
        try:
            return self._ask(slot)
        except (ConnectionError, TimeoutError) as error:
            log.warning("the process that starts workers does not answer (%s); starting another", error)
        self._replace()
        return self._ask(slot)

    def _ask(self, slot: int) -> Forked:
        reader, writer = os.pipe()
        try:
            socket.send_fds(self._socket, [b"\0"], [slot, writer])
            forked = Forked(_pid_in(self._socket.recv(_NUMBER.size)), reader)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return forked

    def _replace(self) -> None:
        """Start a new server, as a new program: this process has threads and the app by now, so no fork."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0  # from now on another process may have this pid
        ours, theirs = socket.socketpair()
        with theirs, _stop_signals_blocked():
            theirs.set_inheritable(True)
            arguments = [self._app, str(theirs.fileno()), str(os.getpid())]
            self._socket.close()
            self._socket = ours
            self._socket.settimeout(_ANSWER_SECONDS)
            self._pid = os.posix_spawn(
                sys.executable, [sys.executable, "-P", "-m", __name__, *arguments], os.environ
            )


def _pid_in(answer: bytes) -> int:
    if not answer:
        raise ConnectionResetError("no answer")
    number: int = _NUMBER.unpack(answer)[0]
    if number < 0:
        raise OSError(-number, os.strerror(-number))
    return number


class _Server:
    """The server's side."""

    def __init__(self, requests: socket.socket, app: str) -> None:
        self._requests = requests
        self._app = app
        self._workers: dict[int, tuple[ForkProcess, int]] = {}  # by sentinel, with the end of the pipe

    def run(self) -> None:
        """Fork a worker for each request, until the pool ends."""
        gc.collect()
        gc.freeze()  # memory that the collector does not visit stays shared
        while True:
            ready = connection.wait([self._requests, *self._workers], _LOOK_SECONDS)
            self._tell_of_the_ended()
            if self._requests in ready:
                _, fds, _, _ = socket.recv_fds(self._requests, 1, 2)
                if not fds:
                    return
                slot, ending = fds
                self._requests.sendall(_NUMBER.pack(self._fork(slot, ending)))
                os.close(slot)

    def _fork(self, slot: int, ending: int) -> int:
        """Returns the worker's pid, or minus the number of the error if none could be started."""
        worker = _fork.Process(target=self._work, args=(slot, ending, os.getpid()), name=_NAME)
        try:
            worker.start()
        except OSError as error:
            os.close(ending)
            return -(error.errno or 1)
        self._workers[worker.sentinel] = worker, ending
        return worker.pid or 0

    def _tell_of_the_ended(self) -> None:
        for sentinel, (worker, ending) in list(self._workers.items()):
            if (code := worker.exitcode) is not None:
                with suppress(BrokenPipeError):  # the pool has ended
                    os.write(ending, _NUMBER.pack(code))
                os.close(ending)
                worker.close()
                del self._workers[sentinel]

    def _work(self, slot: int, ending: int, server_pid: int) -> None:
        """Run as a worker, in the forked process."""
        die_with_parent(signal.SIGKILL, server_pid)
        os.setsid()  # so that only the pool gets a Ctrl-C, and passes it on once
        self._requests.close()
        for end in (ending, *(other for _, other in self._workers.values())):
            os.close(end)
        for number in NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _DEFAULTS.get(number, signal.SIG_DFL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        # Not the command's output, which ends the command when it can't be written: a processor may print.
        sys.stdout = sys.__stdout__ or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        join_pool(slot)
        set_start_method(None, force=True)  # so that the app can choose one
        end_fork_with(lambda: main(self._app))


@contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Block the stop signals, so that a process that is started in the block keeps them blocked.

    The server keeps them blocked and ends with the pool. A worker unblocks them when it is ready, and is then
    sent those that came before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve_to_the_end(requests: socket.socket, app: str, pool_pid: int) -> NoReturn:
    """Run the server, and end this process in any case. The kernel then kills the workers that are left."""
    code = 1
    try:
        die_with_parent(signal.SIGKILL, pool_pid)
        _Server(requests, app).run()
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not go on with its parent's work
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    _serve_to_the_end(socket.socket(fileno=int(sys.argv[2])), sys.argv[1], int(sys.argv[3]))
