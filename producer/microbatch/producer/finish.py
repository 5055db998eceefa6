"""The finish: when everything recorded before a stop has been dealt with, even while others go on.

In three steps, each of which stays true once it is: all those events are cut; the batches that were in
flight then are committed or dead; the outcomes that were on the stream then are handled.
"""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.events import Wake
from microbatch.broker.results import Results

_AT_ONCE = 100


class Finish:
    """Whether the first ``position`` events ever recorded have been dealt with."""

    def __init__(self, broker: Broker, position: int) -> None:
        self._broker = broker
        self._position = position
        self._drain = broker.drain()
        self._opened = False
        self._in_flight: list[str] | None = None
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
        if not self._drain.wait(wait_ms) and self._in_flight is None:
            self._broker.events.wake(Wake.FLUSH)  # a scheduler may have died with the word in hand

    def _all_cut(self) -> bool:
        if self._in_flight is None:
            cut, waiting = self._broker.events.cut_up_to()
            if cut < self._position and waiting:
                return False
            self._in_flight = self._broker.ledger.in_flight()
        return True

    def _all_committed(self) -> bool:
        while self._in_flight:
            first = self._broker.ledger.first_in_flight(self._in_flight[:_AT_ONCE])
            if first is not None:
                self._in_flight = self._in_flight[self._in_flight.index(first) :]
                return False
            self._in_flight = self._in_flight[_AT_ONCE:]
        return True
