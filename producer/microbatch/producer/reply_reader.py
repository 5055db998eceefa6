"""The reply reader: a thread that reads one process's replies, and settles the futures of its events."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.listener import Listener
from microbatch.producer.pending import Pending


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
        self._ttl_ms = broker.timing.reply_ttl_ms
        self._stumble_seconds = broker.timing.stumble_seconds
        self._stream: ReplyStream[Any] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def client_for(self, numbers: list[int]) -> str:
        """The id of the stream that the events with these numbers name.

        The stream is made if there is none, or if the last one was lost. Called by one thread.
        Raises as `ReplyStream.open`.
        """
        while True:
            stream = self._stream or self._opened()
            self._pending.sent(numbers, stream.client)
            if stream is self._stream:  # otherwise it was lost before these events named it
                return stream.client

    def _opened(self) -> ReplyStream[Any]:
        stream = ReplyStream(self._broker.server, self._broker.keys, self._ttl_ms)
        stream.open()
        self._stream = stream
        self._listener.wake()
        return stream

    def start(self) -> None:
        """Start the thread, if it does not run. Called by one thread at a time."""
        if self._thread is None and not self._is_closed:
            name = f"{self._broker.config.name} replies"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def close(self, seconds: float) -> None:
        """End the thread within ``seconds``, and delete the stream. Raises ServerError."""
        self._is_closed = True
        self._listener.wake()
        thread, stream = self._thread, self._stream
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        # A thread that has not ended waits for a server that does not answer. The stream expires on its own.
        if stream is not None and not (thread is not None and thread.is_alive()):
            stream.close()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._step()
            except Exception:  # noqa: BLE001 - a handler of the program's log may raise anything
                traceback.print_exc()
                time.sleep(self._stumble_seconds)
        self._listener.close()

    def _step(self) -> None:
        self._listener.clear()
        if self._is_closed:
            return
        if (stream := self._stream) is None:
            self._listener.pause(BLOCK_SECONDS)
        else:
            self._read(stream)
            self._on_settled()

    def _read(self, stream: ReplyStream[Any]) -> None:
        try:
            found = self._listener.perform(stream.read.asked())
        except ServerError as error:
            self._listener.pause(self._backoff.failed(error))
            return
        self._backoff.succeeded()
        if found is None:
            self._stream = None
            self._pending.lose(stream.client)
        else:
            self._pending.settle_by(found)
