"""The account: where each event that was ever recorded is now."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Self

from microbatch.broker.state.counters import Counters


@dataclass(frozen=True, slots=True)
class Account:
    """The events of one batcher at one moment. Each event is in one of these terms."""

    waiting: int
    in_flight: int
    done: int
    dead: int
    purged: int
    expired: int

    @classmethod
    def of(cls, counters: Counters, waiting: int) -> Self:
        """The account according to the counters, if ``waiting`` events wait."""
        dead = counters.dead_events_now
        in_flight = counters.cut_events - counters.events_gone - dead
        gone = (counters.done_events, dead, counters.purged_events, counters.expired_events)
        return cls(waiting, in_flight, *gone)

    @property
    def recorded(self) -> int:
        """How many events were ever recorded: the sum of the terms. A replay records nothing."""
        return sum(astuple(self))
