"""A snapshot: everything that is kept for a batcher, counted at one instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError
from microbatch.broker.state.account import Account
from microbatch.broker.state.counters import Counters
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.lease import Holder, holder_of
from microbatch.broker.transport.clock import server_time
from microbatch.broker.transport.request import Steps, each, pairs, transaction
from microbatch.broker.wire.event import event_recorded_at_ms
from microbatch.broker.wire.text import printable

_AGES_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is kept for a batcher. Times are unix ms, by the server's clock unless they say otherwise."""

    at_ms: int
    waiting_events: int
    oldest_waiting_ms: int | None
    """When the oldest waiting event was recorded, by its producer's clock."""
    in_flight_batches: int
    oldest_in_flight_ms: int | None
    """The same for the batches in flight; for a thousand of them if there are more."""
    unhandled: int
    """Results and failures that no handler has finished with."""
    counters: Counters
    active: Holder | None
    """The active scheduler."""
    standbys: tuple[Holder, ...]

    @property
    def account(self) -> Account:
        """Where all events are."""
        return Account.of(self.counters, self.waiting_events)


def take_snapshot(broker: Broker) -> Snapshot:
    """Count everything at one instant. O(1), except for the ages of up to 1,000 batches in flight.

    A scheduler shows itself twice per ``lease_ttl``. One that has not done so for two of them is not counted.

    Raises ServerError if the server can't be asked.
    """
    return broker.server.perform(snapshot(broker.keys, broker.config.lease_ttl_ms))


def snapshot(keys: Keys, lease_ttl_ms: int) -> Steps[Snapshot]:
    """The requests for a snapshot."""
    at_ms = int((yield from server_time()))
    waiting, oldest, in_flight, unhandled, stats, lease, seen, ids = yield from transaction(
        ("LLEN", keys.events),
        ("LINDEX", keys.events, 0),
        ("ZCARD", keys.inflight),
        ("XLEN", keys.results),
        ("HGETALL", keys.stats),
        ("GET", keys.lease),
        ("ZRANGE", keys.schedulers, at_ms - 2 * lease_ttl_ms, "+inf", "BYSCORE"),
        ("ZRANGE", keys.inflight, 0, _AGES_LOOKED_AT - 1),
    )
    oldest_in_flight_ms = yield from _oldest_in_flight(keys, [printable(raw) for raw in ids])
    return Snapshot(
        at_ms=at_ms,
        waiting_events=int(waiting),
        oldest_waiting_ms=_oldest([oldest]),
        in_flight_batches=int(in_flight),
        oldest_in_flight_ms=oldest_in_flight_ms,
        unhandled=int(unhandled),
        counters=Counters.of(pairs(stats)),
        active=holder_of(printable(lease)) if lease is not None else None,
        standbys=tuple(holder_of(printable(token)) for token in seen if token != lease),
    )


def _oldest_in_flight(keys: Keys, ids: Sequence[str]) -> Steps[int | None]:
    if not ids:
        return None
    # A batch's first event comes after its header and its run record; the batch may be gone by now.
    raws = yield from each(*(("LINDEX", keys.batch(batch_id), 2) for batch_id in ids))
    return _oldest([raw for raw in raws if isinstance(raw, bytes)])


def _oldest(raws: Sequence[bytes | None]) -> int | None:
    found = []
    for raw in raws:
        try:
            if raw is not None:
                found.append(event_recorded_at_ms(raw))
        except DecodeError:  # what is not an event has no age
            continue
    return min(found, default=None)
