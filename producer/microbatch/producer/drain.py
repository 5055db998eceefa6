"""The drain: finds out when everything recorded before a flush is handled.

There are three steps. First the flush is done, so all these events are cut. Then the batches that were in
flight at that moment are committed or dead. Then the outcomes that were on the stream at that moment are
handled. Each step stays true once it is. So several threads or tasks may ask at the same time.
"""

from __future__ import annotations

from microbatch.broker.broker import CommonBroker
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.request import Steps
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.identity import root_of

_AT_ONCE = 100


class Drain(Verbs[S_co]):
    """Whether everything that was recorded before a flush has been dealt with.

    Args:
        broker: the batcher's broker.
        word: the word that asks for the flush. With FLUSH the scheduler cuts waiting events at once. With
            MARK they wait for their tick.
    """

    def __init__(self, broker: CommonBroker[S_co], word: Wake = Wake.FLUSH) -> None:
        super().__init__(broker.server)
        self._broker = broker
        self._word = word
        self._flush: int | None = None
        self._in_flight: list[str] | None = None
        self._roots: set[str] = set()
        self._last_entry: str | None = None

    @verb
    def ask(self) -> Steps[None]:
        """Ask for the flush, unless that was done before. Raises ServerError: then `reached` asks again."""
        return self._ask()

    @verb
    def reached(self) -> Steps[bool]:
        """Whether everything has been dealt with. A step that was found true is not asked for again."""
        yield from self._ask()
        if self._last_entry is None:
            if not ((yield from self._all_cut()) and (yield from self._all_committed())):
                return False
            self._last_entry = yield from self._broker.unhandled.last_id.asked()
        return not (yield from self._broker.unhandled.any_up_to.asked(self._last_entry))

    @verb
    def remind(self) -> Steps[None]:
        """Tell the scheduler again, if the flush is not done: one may have died with the word in hand."""
        if self._in_flight is None:
            yield from self._broker.wake.tell.asked(self._word)

    def _ask(self) -> Steps[None]:
        if self._flush is None:
            self._flush = yield from self._broker.flushes.ask.asked(self._word)

    def _all_cut(self) -> Steps[bool]:
        if self._in_flight is None:
            state = yield from self._broker.flushes.state.asked()
            flush = self._flush
            if state.waiting and (flush is None or state.done < flush):
                if flush is not None and state.asked < flush:  # the server has lost the numbers
                    self._flush = None
                    yield from self._ask()
                return False
            in_flight = yield from self._broker.ledger.in_flight.asked()
            self._roots = {root_of(batch_id) for batch_id in in_flight}
            self._in_flight = in_flight
        return True

    def _all_committed(self) -> Steps[bool]:
        left = self._in_flight
        while left:
            first = yield from self._broker.ledger.first_in_flight.asked(left[:_AT_ONCE])
            if first is not None:
                self._in_flight = left[left.index(first) :]
                return False
            self._in_flight = left = left[_AT_ONCE:] or (yield from self._parts_in_flight())
        return True

    def _parts_in_flight(self) -> Steps[list[str]]:
        """What is left of the batches that were divided meanwhile."""
        in_flight = yield from self._broker.ledger.in_flight.asked()
        return [batch_id for batch_id in in_flight if root_of(batch_id) in self._roots]
