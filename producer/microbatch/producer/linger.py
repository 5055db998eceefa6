"""Lingering: single events wait in their process for some milliseconds and are sent together."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from itertools import accumulate
from math import inf

from microbatch.broker.errors import BatcherFull, ConfigError, InDoubt, Refused, Unavailable
from microbatch.broker.policy.timing import Timing
from microbatch.broker.process.forking import renew_after_fork
from microbatch.broker.process.loggable import message
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.clock import host_ms
from microbatch.broker.wire.event import encode_event, event_recorded_at_ms
from microbatch.producer.hosts import AtTheEnd, is_job_of_rq
from microbatch.producer.recorder import CHUNK_BYTES, CHUNK_EVENTS, Recorder

log = logging.getLogger(__name__)

LONGEST_LINGER = 60_000
MOST_EVENTS = 11 * CHUNK_EVENTS
MOST_BYTES = 11 * CHUNK_BYTES
"""The most that may wait in a process, including the chunk that is on its way."""
_CLOSE_PAUSE_SECONDS = 0.05
_SHORT_LINGER = 100
"""Milliseconds that still make sense beside eager cutting."""


class Buffer:
    """Events of one batcher that are still in this process, and the thread that sends them.

    They are sent when the oldest has waited for ``linger`` milliseconds, or as soon as they make a chunk.
    Events that the server did not accept (`Unavailable`, `Refused`, `BatcherFull`) stay, and are tried again
    until it does. Events in doubt are not sent again: the doubt is logged, and `flush` raises it.

    A signal handler may call any method during a call of another. So the lock is re-entrant, a caller that
    waits releases it to the thread, and nothing is sent, logged or joined while it is held. After a fork the
    child begins with an empty buffer and a thread of its own, and the parent sends the events of before.

    Raises:
        ConfigError: ``linger`` is not a number of milliseconds from 1 to 60,000.
    """

    def __init__(self, batcher: str, recorder: Recorder, linger: int, timing: Timing) -> None:
        if type(linger) is not int or not 0 < linger <= LONGEST_LINGER:
            raise ConfigError(
                f"linger: whole milliseconds, up to {LONGEST_LINGER:,}, or 0 for not at all; not {linger!r}"
            )
        if recorder.eager and linger > _SHORT_LINGER:
            log.warning(
                "%s: eager cutting takes about a millisecond, and an event lingers for up to %d ms before "
                "it; use a shorter linger, or none",
                batcher, linger,
            )  # fmt: skip
        self._batcher = batcher
        self._recorder = recorder
        self._linger_ms = linger
        self._timing = timing
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin with an empty buffer, as in a process that was forked now."""
        self._lock = threading.RLock()  # for "with": Ctrl-C in "with self._changed" would leave it locked
        self._changed = threading.Condition(self._lock)
        self._waiting: list[bytes] = []  # the oldest first, including those that are on their way
        self._bytes = 0  # the total size of the waiting events
        self._settled = 0  # how many events the server holds or are in doubt
        self._wanted = 0  # up to which count events must be settled now, without lingering
        self._wake_at = inf  # how many events must wait before the thread is woken
        self._at_once = self._recorder.chunk_events
        self._failure: Exception | None = None  # the error of the last try that failed
        self._doubts: list[tuple[int, Exception]] = []  # not reported yet
        self._thread: threading.Thread | None = None  # the thread ends when this is None again
        self._at_exit: AtTheEnd | None = None

    def add(self, body: bytes) -> bool:
        """Add the event with this JSON, once there is room for it. False if the buffer is closed.

        Raises as `wait_sent` does, if there is no room and the server accepts nothing.
        """
        with self._lock:
            while len(self._waiting) >= MOST_EVENTS or self._bytes >= MOST_BYTES:
                self.wait_sent()
            if self._closed:
                return False
            if self._thread is None:
                self._start()
            raw = encode_event(body, host_ms())
            size = len(raw)
            self._waiting.append(raw)
            self._bytes += size
            if len(self._waiting) >= self._wake_at or self._bytes - size < CHUNK_BYTES <= self._bytes:
                self._wake_at = inf
                self._changed.notify_all()
            # A signal handler may have closed the buffer before or after the event was added.
            return self._thread is not None or not self._waiting

    def wait_sent(self) -> None:
        """Return when every event that was added before the call is settled: held by the server, or in doubt.

        Raises:
            Unavailable, Refused, BatcherFull: a try failed. The events that were not sent stay in the buffer.
        """
        with self._lock:
            before, wanted = self._failure, self._want_all()
            self._changed.wait_for(
                lambda: self._settled >= wanted or self._failure is not before or self._thread is None
            )
            if self._settled < wanted:
                error = self._failure or Unavailable("the batcher was closed before all was sent")
                # A new exception for each caller, because several threads may raise it.
                raise type(error)(f"{error} (events that linger here: {len(self._waiting):,})") from error

    def flush(self) -> None:
        """`wait_sent`, and raise InDoubt if events have been in doubt since it was last raised."""
        self.wait_sent()
        with self._lock:
            doubts, self._doubts = self._doubts, []
        if doubts:
            count, cause = sum(count for count, _ in doubts), doubts[-1][1]
            raise InDoubt(f"{_events(count)} may or may not have been recorded: {cause}") from cause

    def close(self) -> None:
        """Accept no more events, and send those that are left. Those not sent within 5 seconds are lost."""
        with self._lock:
            self._closed = True
            self._linger_ms = 0
            self._want_all()
            self._changed.wait_for(
                lambda: not self._waiting or self._thread is None, self._timing.close_seconds
            )
            lost = len(self._waiting) if self._thread is not None else 0  # so that it is logged once
            failure, self._failure = self._failure or "no answer", None
            self._thread = None
            self._changed.notify_all()
        if lost:
            log.error("%s: lost %s that lingered: %s", self._batcher, _events(lost), failure)
        if self._at_exit is not None:
            self._at_exit.cancel()

    def _want_all(self) -> int:
        """Have all waiting events sent now. Returns how many will be settled then."""
        self._wanted = self._settled + len(self._waiting)
        if self._waiting:
            self._changed.notify_all()
        return self._wanted

    def _start(self) -> None:
        name = f"{self._batcher} linger"
        # Only this thread knows whether the process runs a job. Only the other one may log.
        words = (is_job_of_rq(),)
        self._thread = thread = threading.Thread(target=self._run, args=words, name=name, daemon=True)
        self._at_exit = AtTheEnd(self.close)
        thread.start()

    def _run(self, in_job: bool) -> None:  # noqa: FBT001 - a thread's argument
        if in_job:
            log.warning(
                "%s: an event lingers in a job of RQ, whose worker ends the job's process without sending "
                "it; call flush() at the end of the job",
                self._batcher,
            )
        backoff = Backoff(self._batcher)
        while self._thread is not None:
            try:
                if chunk := self._next_chunk():
                    self._send(chunk, backoff)
            except Exception:  # noqa: BLE001 - a log handler of the program may raise anything
                traceback.print_exc()
                time.sleep(self._timing.stumble_seconds)

    def _next_chunk(self) -> list[bytes]:
        """The oldest events, as soon as they are due. Empty at the end."""
        with self._lock:
            self._wake_at = 1
            self._changed.wait_for(lambda: self._waiting or self._thread is None)
            if self._thread is None:
                return []
            waited_ms = host_ms() - event_recorded_at_ms(self._waiting[0])
            left_ms = min(self._linger_ms, self._linger_ms - waited_ms)  # a clock may be set back
            self._wake_at = self._recorder.chunk_events
            self._changed.wait_for(self._is_due, left_ms / 1000)
            self._wake_at = inf
            chunk = self._waiting[: self._at_once]
            return chunk[: 1 + sum(size < CHUNK_BYTES for size in accumulate(map(len, chunk)))]

    def _is_due(self) -> bool:
        is_chunk = len(self._waiting) >= self._recorder.chunk_events or self._bytes >= CHUNK_BYTES
        return is_chunk or self._wanted > self._settled

    def _send(self, chunk: list[bytes], backoff: Backoff) -> None:
        """Try to send a chunk, and pause if nothing was recorded."""
        doubt: Exception | None = None
        try:
            self._recorder.record_stamped(chunk)
        except (Unavailable, Refused, BatcherFull) as error:
            if isinstance(error, BatcherFull) and len(chunk) > 1:
                self._at_once = len(chunk) // 2  # there may be room for fewer
                return
            with self._lock:
                self._failure, self._wanted = error, 0  # every waiting caller sees it, and may ask again
                self._changed.notify_all()
            pause = backoff.failed(error)
            with self._lock:
                pause = _CLOSE_PAUSE_SECONDS if self._closed else pause
                self._changed.wait_for(lambda: self._wanted > self._settled, pause)
            return
        except Exception as error:  # noqa: BLE001 - after any other error it is unknown what the server did
            doubt = error
        with self._lock:
            del self._waiting[: len(chunk)]
            self._bytes -= sum(map(len, chunk))
            self._settled += len(chunk)
            self._at_once = min(2 * self._at_once, self._recorder.chunk_events)
            if doubt is not None:
                self._doubts.append((len(chunk), doubt))
            self._changed.notify_all()
        if doubt is None:
            backoff.succeeded()
        else:
            log.error(
                "%s: %s may or may not have been recorded: %s",
                self._batcher, _events(len(chunk)), message(doubt),
            )  # fmt: skip


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
