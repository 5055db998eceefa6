"""MicroBatcher: records events, and hands what comes of them to the handlers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from microbatch.broker import codec, wire
from microbatch.broker.broker import Broker
from microbatch.broker.config import Config
from microbatch.broker.errors import Stopped
from microbatch.broker.events import Wake
from microbatch.producer.consumer import Consumer

log = logging.getLogger(__name__)

CHUNK_EVENTS = 1_000
CHUNK_BYTES = 1_000_000
"""The most that `record_events` sends in one round trip."""


def start(config: Config) -> MicroBatcher:
    """A batcher to record events with, its server reached and found fit.

    Raises:
        ConfigError: no server is set, or a handler can't be used.
        Unavailable: the server can't be reached.
        Refused: it does not let us in.
        Unsupported: it is too old.
    """
    batcher = MicroBatcher(config)
    batcher.check()
    return batcher


class MicroBatcher:
    """One batcher, as a producer and a consumer see it.

    Safe to use from several threads, and in a process forked from the one that made it. As a context
    manager it stops, then closes.
    """

    def __init__(self, config: Config, *, broker: Broker | None = None) -> None:
        self.config = config
        self._broker = broker if broker is not None else Broker(config)
        self._events = self._broker.events
        self._consumer = Consumer(self._broker)
        self._max_size = config.max_size
        self._stopping = threading.RLock()  # a signal handler may stop in the midst of a stop
        self._stopped = False

    def check(self) -> None:
        """Raises ServerError unless the server can be reached and used."""
        self._broker.server.check_version()

    def record_event(self, event: object) -> None:
        """Record one event. When this returns, the server holds it.

        Raises:
            EncodeError: it has no JSON; nothing was sent.
            Stopped: `stop` was called before.
            Unavailable, Refused: nothing was recorded.
            InDoubt: the connection broke after sending; the event may have been recorded.
        """
        if self._stopped:
            raise Stopped(f"batcher {self.config.name!r} was stopped; the event was not recorded")
        waiting = self._events.record(wire.encode_event(codec.encode(event), time.time_ns() // 1_000_000))
        if waiting % self._max_size == 0:
            self._events.wake(Wake.SIZE)

    def record_events(self, events: Iterable[object]) -> int:
        """Record many events, in one round trip per chunk. Returns how many.

        A chunk (1,000 events or 1 MB of them) is recorded whole or not at all. An event that can't be
        encoded ends it: the chunks before that were recorded, the one that it is in was not.

        Raises as `record_event` does.
        """
        count, chunk, size = 0, [], 0
        for event in events:
            raw = wire.encode_event(codec.encode(event), time.time_ns() // 1_000_000)
            chunk.append(raw)
            size += len(raw)
            if len(chunk) >= CHUNK_EVENTS or size >= CHUNK_BYTES:
                count += self._record_chunk(chunk)
                chunk, size = [], 0
        return count + (self._record_chunk(chunk) if chunk else 0)

    def _record_chunk(self, chunk: list[bytes]) -> int:
        if self._stopped:
            raise Stopped(f"batcher {self.config.name!r} was stopped; {len(chunk)} events were not recorded")
        waiting = self._events.record_many(chunk)
        if waiting // self._max_size > (waiting - len(chunk)) // self._max_size:
            self._events.wake(Wake.SIZE)
        return len(chunk)

    def wait_for_results(self, timeout: float | None = None) -> bool:
        """Hand results and failures to the handlers, in this thread, until stopped and all is handled.

        All is every event that was recorded before the stop, by any host: committed or dead, and its
        result handled, by this consumer or another. Returns True then, or False if ``timeout`` seconds
        passed first.

        A result is acknowledged after its handler has returned. If the handler raises, the exception
        comes out here, and the result is delivered again: to the next call, or to another consumer.

        Raises:
            ServerError: the server could not be asked. Nothing is lost; call it again.
        """
        return self._consumer.run(timeout)

    def stop(self) -> None:
        """Record no more here, and have all that waits cut now. May be called again, and from any thread.

        Raises ServerError if the server could not be told; the next tick cuts what waits all the same.
        """
        with self._stopping:
            self._stopped = True
            if not self._consumer.stopping:
                self._consumer.stop_at(self._events.position())
                self._events.wake(Wake.FLUSH)

    def close(self) -> None:
        """Close the connections. Results that are not handled yet stay for other consumers."""
        self._stopped = True
        self._consumer.leave()
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self.close()
