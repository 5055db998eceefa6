"""The local stack: a scheduler, workers, and a server if none is configured, as child processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError, ServerError
from microbatch.broker.inspect.snapshot import Snapshot, take_snapshot
from microbatch.broker.process.log_format import LEVEL_VARIABLE
from microbatch.broker.process.parent_death import parent_death
from microbatch.ops import logs, rq_facts
from microbatch.ops.checks import check_runnable
from microbatch.ops.local.server import LocalServer
from microbatch.ops.termination import raise_if_terminated

URL_VARIABLE = "MICROBATCH_REDIS_URL"
_START_SECONDS = 30.0
_PATIENCE_SECONDS = 10.0
_GRACE_SECONDS = 6.0  # for the workers, which give their batches back before they are killed
_LOOK_SECONDS = 0.02
_DEFAULT_LEVEL = "WARNING"  # so that the output of the user's program stays readable


class StackError(MicrobatchError):
    """A part of the local stack did not come up, or has ended."""


class Stack:
    """Runs what an app needs on this machine, for a ``with`` block.

    The parts end with the process that started them, even after SIGKILL. Start the stack from the main thread
    (see ``parent_death``).

    Args:
        app: the app of the scheduler and the workers.
        config: the app's settings. Without a ``redis_url`` a server is started too.
        workers: how many worker processes to start.
        data_dir: where that server keeps its data; without it they are gone when it ends.
    """

    def __init__(self, app: str, config: Config, *, workers: int, data_dir: Path | None = None) -> None:
        self._app = app
        self._workers = workers
        self.server = LocalServer(data_dir) if config.redis_url is None else None
        self.config = config
        self._parts: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a process that uses the stack's server."""
        url = {URL_VARIABLE: self.server.url} if self.server is not None else {}
        return {**os.environ, **url}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the workers, the scheduler and the server, in this order. May be called again."""
        try:
            for name in ("worker", "scheduler"):
                if name in self._parts:
                    end(self._parts[name])
        finally:
            for part in self._parts.values():
                part.kill()  # has no effect on a process that has been waited for
                part.wait()
            self._parts.clear()
            if self.server is not None:
                self.server.stop()

    def check(self) -> None:
        """Raises StackError if the scheduler or the workers have ended, Terminated if a signal came."""
        raise_if_terminated()
        for name, part in self._parts.items():
            code = part.poll()
            if code is not None:
                raise StackError(f"the {name} of {self._app} has ended with {_outcome(code)}")

    def count(self) -> Snapshot:
        """What the server holds for this batcher. Raises ServerError if the server can't be asked."""
        broker = Broker(self.config)
        try:
            return take_snapshot(broker)
        finally:
            broker.close()

    def _start(self) -> None:
        if self.server is not None:
            self.server.start()
            self.config = self.config.model_copy(update={"redis_url": self.server.url})
        check_runnable(self.config)
        broker = Broker(self.config)
        try:
            others = {worker.name for worker in rq_facts.workers_of(broker)}
            self._spawn("scheduler", [])
            self._spawn("worker", ["--concurrency", str(self._workers), "--grace", str(_GRACE_SECONDS)])
            self._wait_until_up(broker, others)
        finally:
            broker.close()

    def _spawn(self, name: str, options: Sequence[str]) -> None:
        level = logs.level_of_children(_DEFAULT_LEVEL)
        self._parts[name] = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "microbatch.ops", name, self._app, *options],
            # Unbuffered, so that what a processor prints is seen at once.
            env={**self.environment, LEVEL_VARIABLE: level, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C must reach only the program: the parts end after it, in order
            preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
        )

    def _wait_until_up(self, broker: Broker, others: set[str]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up(broker, others):
            self.check()
            if time.monotonic() > deadline:
                raise StackError(
                    f"the scheduler and the workers of {self._app} were not up after {_START_SECONDS:g} s"
                )
            time.sleep(_LOOK_SECONDS)

    def _is_up(self, broker: Broker, others: set[str]) -> bool:
        found = take_snapshot(broker)
        if found.active is None:
            return False
        schedulers = {(holder.host, holder.pid) for holder in (found.active, *found.standbys)}
        if (socket.gethostname(), self._parts["scheduler"].pid) not in schedulers:
            return False
        new = {worker.name for worker in rq_facts.workers_of(broker)} - others
        return len(new) >= self._workers


def left_behind(stack: Stack) -> int:
    """How many events and results would be lost with the stack's server; 0 if the server can't be asked."""
    try:
        count = stack.count()
    except ServerError:
        return 0
    return count.waiting_events + count.account.in_flight + count.unhandled


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with SIGTERM, and with SIGKILL if that takes too long."""
    process.terminate()
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _outcome(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
