"""The drain: tells when everything recorded before a stop has been dealt with.

In three steps, each of which stays true once it is: all those events are cut; the batches that were in
flight then are committed or dead; the outcomes that were on the stream then are handled. So several threads
may ask at the same time: a step that one of them finds true is true for all.
"""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.identity import root_of

_AT_ONCE = 100


class Drain:
    """Whether the first ``position`` events ever recorded have been dealt with.

    ``flush``: whether what waits is to be cut before its tick.
    """

    def __init__(self, broker: Broker, position: int, *, flush: bool) -> None:
        self.flush = flush
        self._broker = broker
        self._position = position
        self._in_flight: list[str] | None = None
        self._roots: set[str] = set()
        self._last_entry: str | None = None

    def reached(self) -> bool:
        """Whether all is dealt with. What has been seen to be is not asked for again."""
        if self._last_entry is None:
            if not (self._all_cut() and self._all_committed()):
                return False
            self._last_entry = self._broker.unhandled.last_id()
        return not self._broker.unhandled.any_up_to(self._last_entry)

    def remind(self) -> None:
        """Have what waits cut, if it is not yet: a scheduler may have died with the word in hand."""
        if self.flush and self._in_flight is None:
            self._broker.wake.tell(Wake.FLUSH)

    def _all_cut(self) -> bool:
        if self._in_flight is None:
            cut, waiting = self._broker.events.cut_up_to()
            if cut < self._position and waiting:
                return False
            in_flight = self._broker.ledger.in_flight()
            self._roots = {root_of(batch_id) for batch_id in in_flight}
            self._in_flight = in_flight
        return True

    def _all_committed(self) -> bool:
        left = self._in_flight
        while left:
            first = self._broker.ledger.first_in_flight(left[:_AT_ONCE])
            if first is not None:
                self._in_flight = left[left.index(first) :]
                return False
            self._in_flight = left = left[_AT_ONCE:] or self._parts_in_flight()
        return True

    def _parts_in_flight(self) -> list[str]:
        """What is left of the batches that were divided meanwhile."""
        return [batch_id for batch_id in self._broker.ledger.in_flight() if root_of(batch_id) in self._roots]
