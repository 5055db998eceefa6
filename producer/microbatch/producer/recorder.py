"""The recorder: sends encoded events within the batcher's bounds, and wakes the scheduler."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable, Sequence

from microbatch.broker.broker import Broker
from microbatch.broker.transport.clock import host_ms
from microbatch.broker.transport.pending_reply import PendingReply
from microbatch.broker.wire.event import event_prefix
from microbatch.producer.event_checks import EventChecks
from microbatch.producer.room import record_when_there_is_room

log = logging.getLogger(__name__)

CHUNK_EVENTS = 1_000
CHUNK_BYTES = 1_000_000
"""The most events, and the most bytes of them, that should go in one round trip."""


class Recorder:
    """Records events of one batcher.

    Args:
        broker: the batcher's.
        max_size: the size of a full batch, if it differs from the config's.
    """

    def __init__(self, broker: Broker, max_size: int | None = None) -> None:
        config = broker.config
        self._name = config.name
        self._broker = broker
        self._events = broker.events
        self._append = broker.events.append
        self._observer = broker.observer
        self._max_size = max_size or config.max_size
        self._block_seconds = config.block_when_full
        self._checks = EventChecks(config)
        self.check_sizes = self._checks.check_sizes
        self.eager = config.eager
        """Whether the scheduler cuts an event as soon as a worker is free."""
        self.chunk_events = min(CHUNK_EVENTS, config.max_waiting or CHUNK_EVENTS)
        """The most events that `record` should be given at once."""
        self.recorded = 0
        """How many events the server has accepted from this recorder."""

    def record(self, bodies: Sequence[bytes], event_id: str | None = None) -> None:
        """Record the events with these JSON texts, all or none; the server holds them when this returns.

        An ``event_id`` is for a single event. If it was seen within ``dedupe_window``, nothing is recorded.

        Raises:
            EncodeError: an event is too large, or the id is not valid; nothing was sent.
            ConfigError: there is an id, but no ``dedupe_window`` is set.
            BatcherFull: there was no room for ``block_when_full`` seconds.
            Unavailable, Refused: nothing was recorded.
            InDoubt: it may have been recorded.
        """
        if event_id is not None:
            self._checks.check_id(event_id)
        if bodies:
            self.check_sizes(bodies)
            self._record(bodies, _prefix_now(), event_id or "")

    def record_stamped(self, raws: Sequence[bytes], event_id: str = "") -> int:
        """Record events that carry the time they were recorded, and are not too large.

        Returns how many wait now; 0 if the id was seen before. Raises as `record` does.
        """
        return self._record(raws, b"", event_id)

    def record_chunks(self, chunks: Iterable[Sequence[bytes]], *, ahead: bool) -> int:
        """Record chunks of at least one event in turn, as `record` does. Returns how many events.

        If ``chunks`` raises, this raises the same error once all chunks before it are recorded.

        ``ahead``: whether each chunk is made while the one before is on its way, if the batcher's settings
        allow it. Only for chunks that are made quickly: the server's reply is read when the next one is made.
        """
        count = 0
        sent: list[tuple[PendingReply[int], int]] = []  # one at most
        try:
            for bodies in chunks:
                if ahead and self._events.is_plain:
                    self.check_sizes(bodies)
                    if sent:
                        self._finish(*sent.pop())
                    append = self._events.append.request(bodies, _prefix_now(), full_at=self._max_size)
                    sent.append((self._broker.server.send(append), len(bodies)))
                else:
                    self.record(bodies)
                count += len(bodies)
        finally:
            if sent:
                self._finish(*sent.pop())
        return count

    def _finish(self, sent: PendingReply[int], count: int) -> None:
        self._note_appended(sent.reply(), count)

    def _record(self, bodies: Sequence[bytes], prefix: bytes, event_id: str) -> int:
        """Record, and wait for room if there is none. Returns how many wait now; 0 if the id was seen."""
        if self._events.is_plain and not event_id:  # the fast path: one round trip, and few steps
            waiting = self._append(bodies, prefix, full_at=self._max_size)
            self._note_appended(waiting, len(bodies))
            return waiting
        record = functools.partial(
            self._events.record.asked, bodies, prefix, event_id, full_at=self._max_size
        )
        until = time.monotonic() + self._block_seconds
        waiting = self._broker.server.perform(record_when_there_is_room(self._broker, record, until))
        self._note(len(bodies), waiting)
        return waiting

    def _note_appended(self, waiting: int, count: int) -> None:
        if self._events.is_full_by(count, waiting, full_at=self._max_size):
            self._events.tell_full()
        self._note(count, waiting)

    def _note(self, count: int, waiting: int) -> None:
        self.recorded += count
        if waiting and self._observer.sees_success:  # waiting is 0 if the event's id had been seen
            self._observer.recorded(batcher=self._name, count=count, waiting=waiting)


def _prefix_now() -> bytes:
    return event_prefix(host_ms())
