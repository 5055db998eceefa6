"""Counts the batches and events in flight and dead one by one, to correct the counters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from microbatch.broker.lua import scripts
from microbatch.broker.state.counters import Counters
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Request, call, good, pairs, together
from microbatch.broker.transport.server import Server

_PAGE = 2_000  # batches, which take the server about 5 ms


@dataclass(frozen=True, slots=True)
class Tally:
    """Batches and their events, and the counters at that moment."""

    batches: int
    events: int
    counters: Counters


def take_tally(server: Server, keys: Keys) -> Tally | None:
    """Count what is in flight and what is dead, as of one moment, in bounded steps.

    Returns None if batches moved while they were counted. Fewer than 2,000 batches in flight are counted at
    one moment. Any number of dead batches is, while none dies, is replayed, revived or purged.
    Raises ServerError, and DecodeError if a counter is not a number.
    """
    # In one round trip: a system in which batches die all the time leaves no moment between two.
    firsts = together(_page(keys, keys.dead, 0), _page(keys, keys.inflight, 0))
    dead, in_flight = ([page] for page in good(server.perform(firsts)))
    if _goes_on(dead):
        _read_on(server, keys, keys.dead, dead)
        in_flight = []  # what is in flight changes more often, so it is counted last
    _read_on(server, keys, keys.inflight, in_flight)
    pages = [*dead, *in_flight]
    last = pages[-1].counters
    if any(_of_the_dead(page.counters) != _of_the_dead(last) for page in dead):
        return None
    if any(page.counters != last for page in in_flight):
        return None
    return Tally(sum(page.batches for page in pages), sum(page.events for page in pages), last)


def _read_on(server: Server, keys: Keys, ledger: str, found: list[Tally]) -> None:
    while _goes_on(found):
        found.append(server.perform(_page(keys, ledger, len(found))))


def _goes_on(found: list[Tally]) -> bool:
    return not found or found[-1].batches == _PAGE


def _page(keys: Keys, ledger: str, number: int) -> Request[Tally]:
    args = (keys.batch(""), number * _PAGE, _PAGE)
    return call(scripts.AUDIT, (ledger, keys.stats), args).then(_tally)


def _tally(reply: Any) -> Tally:
    batches, events, fields = reply
    return Tally(int(batches), int(events), Counters.of(pairs(fields)))


def _of_the_dead(counters: Counters) -> Counters:
    """The counters that change with the dead, and 0 for the others."""
    cut = replace(counters, cut_batches=0, cut_events=0, divided_batches=0)
    return replace(cut, done_batches=0, done_events=0, expired_events=0)
