"""The submitter: sends events that want a reply.

One thread writes. It sends all events that came during its last write in one write, so many callers need few
round trips. The futures are settled by the reply reader, and by the timeouts.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future
from math import inf
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.errors import (
    AlreadyRecorded,
    BatcherFull,
    Closed,
    InDoubt,
    MicrobatchError,
    ReplyLost,
    ServerError,
    Unavailable,
)
from microbatch.broker.process.forking import renew_after_fork
from microbatch.broker.transport.clock import host_ms
from microbatch.producer.event_checks import stopped
from microbatch.producer.hosts import AtTheEnd
from microbatch.producer.pending import Pending, own_copy
from microbatch.producer.recorder import CHUNK_BYTES, Recorder
from microbatch.producer.reply_future import Callbacks, ReplyFuture
from microbatch.producer.reply_reader import ReplyReader
from microbatch.producer.submission import Submission, next_write, server_ahead_ms, too_many
from microbatch.producer.timeouts import Timeouts

log = logging.getLogger(__name__)


class Submitter:
    """Submits the events of one process. Safe to use from several threads.

    Its threads start with the first event, and end at `close`. At the end of the process, what was submitted
    before is sent.
    """

    def __init__(self, broker: Broker, recorder: Recorder) -> None:
        self._broker = broker
        self._recorder = recorder
        self._name = broker.config.name
        self._most_pending = broker.config.max_pending
        self._block_seconds = broker.config.block_when_full
        self._callbacks = Callbacks(self._name)
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._pending = Pending()
        self._reader = ReplyReader(self._broker, self._pending, self._notify)
        self._timeouts = Timeouts(
            self._name, self._pending, self._notify, stumble_seconds=self._broker.timing.stumble_seconds
        )
        self._waiting: deque[Submission] = deque()
        self._is_writing = self._is_closed = False
        self._thread: threading.Thread | None = None
        self._at_exit: AtTheEnd | None = None

    def renew(self) -> None:
        """Begin anew, as in a process that was forked now. The futures of the parent fail here."""
        inherited = self._pending
        inherited.unlock()
        self._callbacks.renew()
        self._begin()
        for future in inherited.futures():
            if isinstance(future, ReplyFuture):
                future.renew()
        inherited.fail_all(lambda: ReplyLost("the process was forked, and its parent gets the reply"))

    def submit(
        self, body: bytes, event_id: str = "", *, timeout: float | None = None, expires: float | None = None
    ) -> Future[Any]:
        """Send an event soon, and return the future of its outcome. Times are in seconds.

        Raises:
            TooManyPending: there was no room for ``block_when_full`` seconds.
            Stopped: `close` was called before.
        """
        deadline = inf if timeout is None else time.monotonic() + timeout
        future = ReplyFuture(self._callbacks, self._forget)
        with self._changed:
            self._wait_for_room()
            if self._is_closed:
                raise stopped(self._name, 1, "closed")
            future.number = number = self._pending.add(future, deadline)
            self._waiting.append(Submission(number, body, host_ms(), event_id, expires))
            self._start()
            self._changed.notify_all()
        self._timeouts.watch(deadline)
        return future

    def wait_sent(self) -> None:
        """Return when all events that were submitted before are sent, or have failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not (self._waiting or self._is_writing))

    def close(self, seconds: float) -> None:
        """Send what is left within ``seconds``, and fail the futures that are pending then."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing), seconds)
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._timeouts.close()
        try:
            self._reader.close(seconds)
        except ServerError as error:
            log.debug("%s: the reply stream expires on its own: %s", self._name, error)
        unsent = self._pending.fail_all(
            lambda: Unavailable("the batcher was closed before the event was sent; it is not recorded"), ""
        )
        if unsent:
            log.error("%s: lost %s submitted events: the batcher was closed first", self._name, f"{unsent:,}")
        self._pending.fail_all(lambda: Closed("the batcher was closed before the reply came"))
        self._callbacks.close()
        if self._at_exit is not None:
            self._at_exit.cancel()

    def _wait_for_room(self) -> None:
        def is_free() -> bool:
            return self._is_closed or len(self._pending) < self._most_pending

        if not is_free() and not self._changed.wait_for(is_free, self._block_seconds):
            raise too_many(self._most_pending)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"{self._name} submits", daemon=True)
            self._thread.start()
            self._reader.start()
            self._at_exit = AtTheEnd(self._close_at_exit)

    def _close_at_exit(self) -> None:
        self.close(self._broker.timing.close_seconds)

    def _forget(self, number: int) -> None:
        """Forget an event whose future was cancelled."""
        self._pending.forget(number)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while chunk := self._next_chunk():
            try:
                self._send(chunk)
            except Exception:  # noqa: BLE001 - a handler of the program's log may raise anything
                traceback.print_exc()
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def _next_chunk(self) -> list[Submission]:
        """The next events to be sent in one write, as soon as there are any. Empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return []
            count = next_write(self._waiting, self._recorder.chunk_events, CHUNK_BYTES)
            self._is_writing = True
            return [self._waiting.popleft() for _ in range(count)]

    def _send(self, chunk: list[Submission]) -> None:
        """Record events. After InDoubt their futures stay pending: the replies settle the doubt."""
        numbers = [submission.number for submission in chunk]
        try:
            client = self._reader.client_for(numbers)
            ahead_ms = server_ahead_ms(chunk, self._broker.clock)
            raws = [submission.encode(client, ahead_ms) for submission in chunk]
            if not self._recorder.record_stamped(raws, chunk[0].event_id):
                self._fail(numbers, AlreadyRecorded("an event with this id was recorded before"))
        except BatcherFull as error:
            if len(chunk) == 1 or self._block_seconds:
                self._fail(numbers, error)
            else:  # there may be room for fewer
                half = len(chunk) // 2
                self._send(chunk[:half])
                self._send(chunk[half:])
        except InDoubt as error:
            log.warning("%s: submitted events may or may not have been recorded: %s", self._name, error)
        except MicrobatchError as error:
            self._fail(numbers, error)
        except BaseException as error:
            self._fail(numbers, error)
            raise

    def _fail(self, numbers: list[int], error: BaseException) -> None:
        for number in numbers:
            self._pending.settle(number, own_copy(error))
