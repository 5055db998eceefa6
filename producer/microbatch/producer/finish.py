"""The finish: when everything recorded before a stop has been dealt with, even while others go on.

In three steps, each of which stays true once it is: all those events are cut; the batches that were in
flight then are committed or dead; the outcomes that were on the stream then are handled.
"""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.events import Wake
from microbatch.broker.results import Results
from microbatch.broker.wire import root_of

_AT_ONCE = 100


class Finish:
    """Whether the first ``position`` events ever recorded have been dealt with.

    ``flush``: whether what waits is to be cut before its tick.
    """

    def __init__(self, broker: Broker, position: int, *, flush: bool) -> None:
        self._flush = flush
        self._broker = broker
        self._position = position
        self._drain = broker.drain()
        self._opened = False
        self._in_flight: list[str] | None = None
        self._roots: set[str] = set()
        self._last_entry: str | None = None

    def reached(self, results: Results) -> bool:
        """Whether all is dealt with. What has been seen to be is not asked for again."""
        if not self._opened:
            self._drain.open()  # first, so that nothing happens unseen between a look and a wait
            self._opened = True
        if self._last_entry is None:
            if not (self._all_cut() and self._all_committed()):
                return False
            self._last_entry = results.last_id()
        return not results.unhandled_up_to(self._last_entry)

    def wait(self, wait_ms: int) -> None:
        """Wait until something has happened that may bring the finish, for ``wait_ms`` at most."""
        if not self._drain.wait(wait_ms) and self._flush and self._in_flight is None:
            self._broker.events.wake(Wake.FLUSH)  # a scheduler may have died with the word in hand

    def _all_cut(self) -> bool:
        if self._in_flight is None:
            cut, waiting = self._broker.events.cut_up_to()
            if cut < self._position and waiting:
                return False
            self._in_flight = self._broker.ledger.in_flight()
            self._roots = {root_of(batch_id) for batch_id in self._in_flight}
        return True

    def _all_committed(self) -> bool:
        while self._in_flight:
            first = self._broker.ledger.first_in_flight(self._in_flight[:_AT_ONCE])
            if first is not None:
                self._in_flight = self._in_flight[self._in_flight.index(first) :]
                return False
            self._in_flight = self._in_flight[_AT_ONCE:] or self._parts_in_flight()
        return True

    def _parts_in_flight(self) -> list[str]:
        """What is left of the batches that were divided meanwhile."""
        return [batch_id for batch_id in self._broker.ledger.in_flight() if root_of(batch_id) in self._roots]
