"""Lingering: single events wait in their process for some milliseconds, and go to the server together.

Callers and the sending thread share no lock, so a signal handler may stop a batcher in the midst of a call:
what they share is a deque, a set and a queue, and each change of one of them is a single step.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue

from microbatch.broker import wire
from microbatch.broker.errors import BatcherFull, ConfigError, InDoubt, Refused, Unavailable
from microbatch.broker.patience import Patience
from microbatch.producer.recorder import CHUNK_BYTES, CHUNK_EVENTS, Recorder

log = logging.getLogger(__name__)

LONGEST_LINGER = 60_000
MOST_EVENTS = 10 * CHUNK_EVENTS
MOST_BYTES = 10 * CHUNK_BYTES
"""What may wait in a process, beside the chunk that is on its way."""
CLOSE_SECONDS = 5.0
"""How long the end of a process is put off for what it has not sent yet."""
_CLOSE_PAUSE_SECONDS = 0.05
_CLOSED = "the batcher was closed before all was sent"
_NEVER = 1 << 62


class Buffer:
    """Events of one batcher that are still in this process, and the thread that sends them.

    They are sent when the oldest has waited for ``linger`` milliseconds, or as soon as they make a chunk.
    The thread is started with the first event. After a fork the child begins with an empty buffer and a
    thread of its own: what was in the buffer before, the parent sends.

    What the server did not take (`Unavailable`, `Refused`, `BatcherFull`) stays, and is tried again until it
    does. What is in doubt is not sent again: it is logged, and `flush` raises it.

    Raises:
        ConfigError: ``linger`` is no number of milliseconds from 1 to 60,000.
    """

    def __init__(self, batcher: str, recorder: Recorder, linger: int) -> None:
        if type(linger) is not int or not 0 < linger <= LONGEST_LINGER:
            raise ConfigError(
                f"linger: whole milliseconds, up to {LONGEST_LINGER:,}, or 0 for not at all; not {linger!r}"
            )
        self._batcher = batcher
        self._recorder = recorder
        self._linger_ms = linger
        self._chunk_events = recorder.chunk_events
        self._closed = False
        self.begin()
        _buffers.add(self)

    def begin(self) -> None:
        """Begin with nothing, as in a process that was forked just now."""
        self._adding = threading.RLock()  # among callers alone
        self._waiting: deque[bytes | _Mark] = deque()
        self._bytes_in = self._bytes_out = 0
        self._marks: set[_Mark] = set()
        self._doubts: deque[tuple[int, Exception]] = deque()
        self._busy = False
        self._in_hand = 0
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._ring_at = _NEVER
        self._ended = False
        self._thread: threading.Thread | None = None
        self._at_exit: Finalize | None = None

    def add(self, body: bytes) -> bool:
        """Take the event with this JSON, once there is room for it. False if the buffer is closed.

        Raises:
            Unavailable, Refused, BatcherFull: there is no room, and the server takes nothing.
        """
        if len(self._waiting) >= MOST_EVENTS or self._bytes_in - self._bytes_out >= MOST_BYTES:
            self.settle()
        raw = wire.encode_event(body, time.time_ns() // 1_000_000)
        with self._adding:
            if self._closed:
                return False
            if self._thread is None:
                self._start()
            self._bytes_in += len(raw)
            self._waiting.append(raw)
        if len(self._waiting) >= self._ring_at or self._bytes_in - self._bytes_out >= CHUNK_BYTES:
            self._ring()
        return not self._ended

    def settle(self) -> None:
        """Return when nothing that was added before the call is on its way any more.

        Raises:
            Unavailable, Refused, BatcherFull: a try failed. What was not sent stays in the buffer.
        """
        error = self._settled()
        if error is not None:  # which may be told to several threads
            raise type(error)(f"{error} (events that linger here: {len(self):,})") from error

    def flush(self) -> None:
        """`settle`, and raise InDoubt if events have been in doubt since it was last raised."""
        self.settle()
        doubts = []
        with contextlib.suppress(IndexError):
            while True:
                doubts.append(self._doubts.popleft())
        if doubts:
            count, cause = sum(count for count, _ in doubts), doubts[-1][1]
            raise InDoubt(f"{_events(count)} may or may not have been recorded: {cause}") from cause

    def close(self) -> None:
        """Take nothing more, and send what is left. What can't be sent within 5 seconds is lost."""
        deadline = time.monotonic() + CLOSE_SECONDS
        self._closed = True
        with self._adding:
            thread = self._thread
        if thread is None or self._ended:
            return
        left = self._settled(deadline)
        while left is not None and time.monotonic() + _CLOSE_PAUSE_SECONDS < deadline:
            time.sleep(_CLOSE_PAUSE_SECONDS)
            left = self._settled(deadline)
        self._ended = True
        if left is not None:
            log.error("%s: lost are %s that lingered: %s", self._batcher, _events(len(self)), left)
        self._ring()
        thread.join(max(0.0, deadline - time.monotonic()))
        if self._at_exit is not None:
            self._at_exit.cancel()

    def __len__(self) -> int:
        """How many events the server has not taken yet, as far as is known."""
        return self._in_hand + sum(isinstance(item, bytes) for item in self._waiting.copy())

    def _settled(self, deadline: float | None = None) -> Exception | None:
        """None when all that was added before the call is settled; else why a try failed."""
        if not (self._waiting or self._busy):
            return None
        mark = _Mark()
        self._marks.add(mark)
        self._waiting.append(mark)
        if self._ended:
            return Unavailable(_CLOSED) if len(self) else None
        self._ring()
        return mark.wait(deadline)

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"{self._batcher} linger", daemon=True)
        # Not with atexit, whose functions are not called where a process of multiprocessing ends.
        self._at_exit = Finalize(None, self.close, exitpriority=0)
        self._thread.start()

    # --- what the thread does

    def _run(self) -> None:
        patience = Patience(self._batcher)
        while self._wait_until_due():
            self._busy = True
            raws, marks = self._take()
            if not self._send(raws, patience):
                break
            self._busy = False
            self._tell(marks, None)
        self._tell_failure(Unavailable(_CLOSED))

    def _wait_until_due(self) -> bool:
        """Wait until something is to be sent now. False when there is no more to do."""
        self._ring_at = 1
        while not self._waiting and not self._ended:
            self._wait(None)
        self._ring_at = self._chunk_events
        while not (self._marks or self._ended or self._is_chunk()) and (left := self._linger_left()) > 0:
            self._wait(left)
        self._ring_at = _NEVER
        return not self._ended

    def _is_chunk(self) -> bool:
        return len(self._waiting) >= self._chunk_events or self._bytes_in - self._bytes_out >= CHUNK_BYTES

    def _linger_left(self) -> float:
        """For how many seconds the oldest event may still wait."""
        oldest = self._waiting[0]
        if not isinstance(oldest, bytes):
            return 0.0
        waited_ms = time.time_ns() // 1_000_000 - wire.event_recorded_at_ms(oldest)
        return min(self._linger_ms, self._linger_ms - waited_ms) / 1000  # a clock may be set back

    def _take(self) -> tuple[list[bytes], list[_Mark]]:
        """The oldest chunk, and the marks in it."""
        raws: list[bytes] = []
        marks: list[_Mark] = []
        size = 0
        while self._waiting and len(raws) < self._chunk_events and size < CHUNK_BYTES:
            item = self._waiting.popleft()
            if isinstance(item, bytes):
                raws.append(item)
                size += len(item)
            else:
                marks.append(item)
        self._bytes_out += size
        return raws, marks

    def _send(self, raws: list[bytes], patience: Patience) -> bool:
        """Send events until the server has them all, or they are in doubt. False if the end came first."""
        at_once = self._in_hand = len(raws)
        while raws and not self._ended:
            part = raws[:at_once]
            try:
                self._recorder.record_stamped(part)
            except (Unavailable, Refused, BatcherFull) as error:  # so nothing was recorded
                if isinstance(error, BatcherFull) and len(part) > 1:
                    at_once = len(part) // 2  # there may be room for fewer
                    continue
                self._tell_failure(error)
                self._pause(patience.lost(error))
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows what the server has done
                self._doubt(len(part), error)
            else:
                patience.found()
            del raws[:at_once]
            self._in_hand = len(raws)
            at_once *= 2
        return not raws

    def _doubt(self, count: int, error: Exception) -> None:
        log.error("%s: %s may or may not have been recorded: %s", self._batcher, _events(count), error)
        self._doubts.append((count, error))

    def _pause(self, seconds: float) -> None:
        """Wait for the next try, unless somebody wants to know now."""
        until = time.monotonic() + seconds
        while not (self._marks or self._ended) and (left := until - time.monotonic()) > 0:
            self._wait(left)

    def _tell(self, marks: Iterable[_Mark], error: Exception | None) -> None:
        for mark in marks:
            if mark in self._marks:
                self._marks.discard(mark)
                mark.tell(error)

    def _tell_failure(self, error: Exception) -> None:
        """Tell all who wait, and take their marks away, which would else gather while the server is gone."""
        marks = self._marks.copy()
        for mark in marks:
            with contextlib.suppress(ValueError):  # it is behind the events that are being sent
                self._waiting.remove(mark)
        self._tell(marks, error)

    def _wait(self, seconds: float | None) -> None:
        """Until the bell rings; it may ring for nothing."""
        with contextlib.suppress(Empty):
            self._bell.get(timeout=seconds)
        self._rung = False


_buffers: weakref.WeakSet[Buffer] = weakref.WeakSet()


def _begin_all() -> None:
    for buffer in list(_buffers):
        buffer.begin()


os.register_at_fork(after_in_child=_begin_all)


class _Mark:
    """A place in the buffer that somebody waits for the sending thread to reach."""

    def __init__(self) -> None:
        self._told = threading.Lock()
        self._told.acquire()
        self._error: Exception | None = None

    def tell(self, error: Exception | None) -> None:
        self._error = error
        self._told.release()

    def wait(self, deadline: float | None) -> Exception | None:
        """What it was told: None, or an error. Past the deadline, that."""
        left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        return self._error if self._told.acquire(timeout=left) else TimeoutError("there was no time left")


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
