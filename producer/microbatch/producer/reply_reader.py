"""The reply reader: a thread that reads one process's replies, and settles the futures of its events."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ReplyLost, ServerError
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.listener import Listener
from microbatch.producer.pending import AnyFuture, Pending, outcome_of, settle

_LONGEST_READ_SECONDS = 5.0
_STUMBLE_SECONDS = 0.5
LOST = "the reply can't come any more: the server has lost it, or this process did not read for a minute"


class ReplyFuture(Future[Any]):
    """A future whose callbacks don't run on the reader's thread: a slow one would hold up all others."""

    has_callbacks = False

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        self.has_callbacks = True
        super().add_done_callback(fn)


class ReplyReader:
    """Reads the replies to the events of one process. It does not exist in a process that is forked from it.

    Args:
        broker: the batcher's.
        pending: the futures.
        on_settled: called on the reader's thread after some futures were settled.
    """

    def __init__(self, broker: Broker, pending: Pending, on_settled: Callable[[], None]) -> None:
        self._broker = broker
        self._pending = pending
        self._on_settled = on_settled
        self._listener = Listener(broker.server)
        self._backoff = Backoff(broker.config.name)
        self._stream: ReplyStream[Any] | None = None
        self._thread: threading.Thread | None = None
        self._callbacks: ThreadPoolExecutor | None = None
        self._is_closed = False
        self._wait_until = 0.0

    def open_stream(self) -> ReplyStream[Any]:
        """The stream that new events name. It is made if there is none, or if the last one was lost.

        Called by one thread. Raises ServerError.
        """
        if (stream := self._stream) is None:
            ttl_ms = self._broker.timing.reply_ttl_ms
            stream = ReplyStream(self._broker.server, self._broker.keys, ttl_ms)
            stream.open()
            self._stream = stream
            self._listener.wake()
        return stream

    def watch(self, deadline: float) -> None:
        """Start the thread, if it does not run, and have it settle a future by this deadline."""
        if self._thread is None and not self._is_closed:
            name = f"{self._broker.config.name} replies"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        elif deadline < self._wait_until:
            self._listener.wake()

    def settle(self, future: AnyFuture | None, outcome: object) -> None:
        """Give a future its outcome. Callbacks run on a thread of their own."""
        if isinstance(future, ReplyFuture) and future.has_callbacks:
            if self._callbacks is None:
                self._callbacks = ThreadPoolExecutor(4, f"{self._broker.config.name} callbacks")
            self._callbacks.submit(settle, future, outcome)
        elif future is not None:
            settle(future, outcome)

    def close(self, seconds: float) -> None:
        """End the thread within ``seconds``, and delete the stream. Raises ServerError."""
        self._is_closed = True
        self._listener.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._step()
            except Exception:  # noqa: BLE001 - a handler of the program's log may raise anything
                traceback.print_exc()
                time.sleep(_STUMBLE_SECONDS)
        self._listener.close()

    def _step(self) -> None:
        self._listener.clear()
        if self._is_closed:
            return
        now = time.monotonic()
        self._wait_until = min(now + _LONGEST_READ_SECONDS, self._pending.next_deadline)
        stream, wait = self._stream, self._wait_until - now
        if stream is None:
            self._listener.pause(wait)
        else:
            self._read(stream, wait)
        for future in self._pending.take_late(time.monotonic()):
            self.settle(future, TimeoutError("no reply came within the timeout"))
        self._on_settled()

    def _read(self, stream: ReplyStream[Any], wait: float) -> None:
        try:
            found = self._listener.perform(stream.read.asked(ceil(wait * 1000)), within=wait)
        except ServerError as error:
            pause = self._backoff.failed(error)
            self._listener.pause(min(pause, wait))
            return
        self._backoff.succeeded()
        if found is None:
            self._stream = None
            for future in self._pending.take_all(stream.client):
                self.settle(future, ReplyLost(LOST))
            return
        for number, raw in found:
            self.settle(self._pending.take(number), outcome_of(raw))
