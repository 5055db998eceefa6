"""The consumer: handles results on each thread that calls it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from microbatch.broker.app.importing import refuse_while_importing
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.process.forking import renew_after_fork
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.server import Server
from microbatch.producer.drain import Drain
from microbatch.producer.member_thread import MemberThread

log = logging.getLogger(__name__)


class Consumer:
    """Handles a batcher's results. Each thread that is in `run` is its own member of the group.

    Everything but `run` may be called in a signal handler. So there are no locks, and what the consumer is
    told is kept in attributes. After a fork the child has no memberships yet.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._drain: Drain[Server] | None = None
        self._has_quit = self._has_left = False
        self.renew()
        self._idle.append(
            MemberThread(broker)
        )  # made now, so that a handler that can't be used is reported now
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without any membership, as in a process that was forked now."""
        self._idle: list[MemberThread] = []
        self._running: list[MemberThread] = []

    def stop(self, word: Wake = Wake.FLUSH) -> None:
        """Have `run` return when everything recorded before the first call is dealt with.

        ``word``: see `Drain`. Raises ServerError: the server could not be asked. `run` asks it again.
        """
        if self._drain is None:
            self._drain = Drain(self._broker, word)
        try:
            self._drain.ask()
        finally:
            self.wake()

    def quit(self) -> None:
        """Have every `run`, now and later, return as soon as its running handler has returned.

        Results that were delivered and that no handler has begun go to other consumers at once.
        """
        self._has_quit = True
        self.wake()

    def wake(self) -> None:
        """Have every `run` check what it was told."""
        for member in tuple(self._running):
            member.wake()

    def run(self, timeout: float | None, *, is_told: Callable[[], bool] | None = None) -> bool:
        """Handle outcomes until stopped and all is handled. Returns True then.

        Returns False after ``timeout`` seconds, after `quit`, or when ``is_told`` returns true, which needs a
        `wake` to be noticed.
        """
        refuse_while_importing("wait_for_results()")
        with self._in_use() as member:
            return member.run(
                lambda: self._has_quit or (is_told is not None and is_told()),
                lambda: self._drain,
                inf if timeout is None else time.monotonic() + timeout,
            )

    def pause(self, seconds: float, *, is_told: Callable[[], bool]) -> None:
        """Wait for ``seconds``, or until `run` would end at once because it was told to."""
        with self._in_use() as member:
            member.pause(seconds, lambda: self._has_quit or is_told())

    def leave(self) -> None:
        """Leave the group, after `quit`. Results delivered to this process and not handled go to others.

        A membership that is in use leaves when its `run` returns.
        """
        self._has_left = True
        while self._idle:
            member = self._idle.pop()
            try:
                member.leave()
            except ServerError as error:
                log.debug("%s: its name leaves the group later: %s", self._name, error)

    def wait(self, seconds: float) -> bool:
        """Whether every `run` on other threads has returned, within ``seconds``."""
        deadline = time.monotonic() + seconds
        others = [member for member in tuple(self._running) if member.thread != threading.get_ident()]
        for member in others:
            if not member.over.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return False
            member.over.release()
        return not self._running

    @contextmanager
    def _in_use(self) -> Iterator[MemberThread]:
        """A membership for this thread."""
        try:
            member = self._idle.pop()
        except IndexError:
            member = MemberThread(self._broker)
        member.over.acquire()
        member.thread = threading.get_ident()
        self._running.append(member)
        try:
            yield member
        finally:
            if member in self._running:  # false in a child that a handler has forked
                self._running.remove(member)
                self._idle.append(member)
            try:
                if self._has_left:
                    self.leave()
            finally:
                member.over.release()  # last, so that `wait` includes everything that needs a connection
