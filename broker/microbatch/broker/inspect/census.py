"""The census: one look at everything that is kept for a batcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.errors import DecodeError
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.lease import Holder, holder_of
from microbatch.broker.state.stats import Counters
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.event import event_recorded_at_ms
from microbatch.broker.wire.text import printable

_AGES_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class Count:
    """What a census found. Times are unix milliseconds, by the server's clock unless they say otherwise."""

    at_ms: int
    waiting_events: int
    oldest_waiting_ms: int | None
    """When the oldest waiting event was recorded, by its producer's clock."""
    in_flight_batches: int
    oldest_in_flight_ms: int | None
    """The same of the batches in flight; of a thousand of them if there are more."""
    unhandled: int
    """Results and failures that no handler has finished with."""
    counters: Counters
    active: Holder | None
    """The active scheduler."""
    standbys: tuple[Holder, ...]

    @property
    def in_flight_events(self) -> int:
        return self.counters.cut_events - self.counters.events_gone - self.counters.dead_events_now


class Census:
    """Counts what is kept for one batcher.

    ``seen_within_ms``: a scheduler that has not shown itself for so long is not counted as standing by.
    """

    def __init__(self, server: Server, keys: Keys, *, seen_within_ms: int) -> None:
        self._server = server
        self._keys = keys
        self._seen_within_ms = seen_within_ms

    def take(self) -> Count:
        """Count everything at one instant. O(1), but for the age of up to 1,000 batches in flight.

        Raises ServerError if the server can't be asked.
        """
        keys = self._keys
        seconds, micros = self._server.do("TIME")
        at_ms = int(seconds) * 1000 + int(micros) // 1000
        waiting, oldest, in_flight, unhandled, stats, lease, seen, ids = self._server.many(
            ("LLEN", keys.events),
            ("LINDEX", keys.events, 0),
            ("ZCARD", keys.inflight),
            ("XLEN", keys.results),
            ("HGETALL", keys.stats),
            ("GET", keys.lease),
            ("ZRANGE", keys.schedulers, at_ms - self._seen_within_ms, "+inf", "BYSCORE"),
            ("ZRANGE", keys.inflight, 0, _AGES_LOOKED_AT - 1),
            transaction=True,
        )
        return Count(
            at_ms=at_ms,
            waiting_events=int(waiting),
            oldest_waiting_ms=_oldest([oldest]),
            in_flight_batches=int(in_flight),
            oldest_in_flight_ms=self._oldest_in_flight([printable(raw) for raw in ids]),
            unhandled=int(unhandled),
            counters=Counters.of(stats),
            active=holder_of(printable(lease)) if lease is not None else None,
            standbys=tuple(holder_of(printable(token)) for token in seen if token != lease),
        )

    def _oldest_in_flight(self, ids: Sequence[str]) -> int | None:
        if not ids:
            return None
        # A batch's first event comes after its header and its run record; the batch may be gone by now.
        raws = self._server.each(*(("LINDEX", self._keys.batch(batch_id), 2) for batch_id in ids))
        return _oldest([raw for raw in raws if isinstance(raw, bytes)])


def _oldest(raws: Sequence[bytes | None]) -> int | None:
    found = []
    for raw in raws:
        try:
            if raw is not None:
                found.append(event_recorded_at_ms(raw))
        except DecodeError:  # something that is no event has no age
            continue
    return min(found, default=None)
