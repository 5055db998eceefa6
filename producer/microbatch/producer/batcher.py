"""MicroBatcher: records events, and hands what comes of them to the handlers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from microbatch.broker import codec
from microbatch.broker.broker import Broker
from microbatch.broker.config import Config
from microbatch.broker.errors import Stopped
from microbatch.broker.events import Wake
from microbatch.producer.consumer import Consumer
from microbatch.producer.recorder import CHUNK_BYTES, Recorder

log = logging.getLogger(__name__)


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
        self._recorder = Recorder(self._broker)
        self._stopping = threading.RLock()  # a signal handler may stop in the midst of a stop
        self._stopped = False

    def check(self) -> None:
        """Raises ServerError unless the server can be reached and used."""
        self._broker.server.check_version()

    def record_event(self, event: object, id: str | None = None) -> None:  # noqa: A002 - what it is
        """Record one event. When this returns, the server holds it.

        Args:
            event: anything that pydantic can put into JSON.
            id: makes it safe to repeat a call that failed in doubt: of the calls with one id within
                ``dedupe_window`` seconds, one records its event. At most 200 characters.

        Raises:
            EncodeError: it has no JSON, or too much of it; nothing was sent.
            Stopped: `stop` was called before.
            BatcherFull: ``max_waiting`` events wait, and went on to for ``block_when_full`` seconds.
            Unavailable, Refused: nothing was recorded.
            InDoubt: the connection broke after sending, or no replica confirmed: it may have been recorded.
        """
        if self._stopped:
            raise Stopped(f"batcher {self.config.name!r} was stopped; the event was not recorded")
        self._recorder.record([codec.encode(event)], id)

    def record_events(self, events: Iterable[object]) -> int:
        """Record many events, in one round trip per chunk. Returns how many.

        A chunk (1,000 events or 1 MB of them) is recorded whole or not at all. An event that can't be
        encoded ends it: the chunks before that were recorded, the one that it is in was not.

        Raises as `record_event` does.
        """
        count, more = 0, iter(events)
        while chunk := codec.encode_some(more, self._recorder.chunk_events, CHUNK_BYTES):
            if self._stopped:
                raise Stopped(
                    f"batcher {self.config.name!r} was stopped; {len(chunk)} events were not recorded"
                )
            self._recorder.record(chunk)
            count += len(chunk)
        return count

    def wait_for_results(self, timeout: float | None = None) -> bool:
        """Hand results and failures to the handlers, in this thread, until stopped and all is handled.

        All is every event that was recorded before the stop, by any host: committed or dead, and its
        result handled, by this consumer or another. Returns True then, or False if ``timeout`` seconds
        passed first.

        A result is acknowledged after its handler has returned. If the handler raises, the exception
        comes out here, and the result is delivered again: to the next call, or to another consumer.

        A server that goes away is waited for.

        Raises:
            Refused: the server answers, but does not do it. Nothing is lost; call it again.
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
