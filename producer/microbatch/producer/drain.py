"""The drain: tells when everything recorded before a flush has been dealt with.

It takes three steps. First the flush is done, so all those events are cut. Then the batches that were in
flight at that moment are committed or dead. Then the outcomes that were on the stream at that moment are
handled. Each step stays true once it is. So several threads may ask at the same time.
"""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.identity import root_of

_AT_ONCE = 100


class Drain:
    """Whether everything that was recorded before a flush has been dealt with.

    Args:
        broker: the batcher's.
        word: what to ask for the flush with: FLUSH has waiting events cut at once, MARK leaves them to their
            tick.
    """

    def __init__(self, broker: Broker, word: Wake = Wake.FLUSH) -> None:
        self._broker = broker
        self._word = word
        self._flush: int | None = None
        self._in_flight: list[str] | None = None
        self._roots: set[str] = set()
        self._last_entry: str | None = None

    def ask(self) -> None:
        """Ask for the flush, unless that was done before. Raises ServerError: then `reached` asks again."""
        if self._flush is None:
            self._flush = self._broker.flushes.ask(self._word)

    def reached(self) -> bool:
        """Whether everything has been dealt with. A step that was found true is not asked for again."""
        self.ask()
        if self._last_entry is None:
            if not (self._all_cut() and self._all_committed()):
                return False
            self._last_entry = self._broker.unhandled.last_id()
        return not self._broker.unhandled.any_up_to(self._last_entry)

    def remind(self) -> None:
        """Tell the scheduler again, if the flush is not done: one may have died with the word in hand."""
        if self._in_flight is None:
            self._broker.wake.tell(self._word)

    def _all_cut(self) -> bool:
        if self._in_flight is None:
            state, flush = self._broker.flushes.state(), self._flush
            if state.waiting and (flush is None or state.done < flush):
                if flush is not None and state.asked < flush:  # the server has lost the numbers
                    self._flush = None
                    self.ask()
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
