"""The outlook of a batch after a failed run: how it is retried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from microbatch.broker.wire.in_flight import Part


class NextStep(StrEnum):
    """The next step for the batch."""

    RETRY = "retry"
    """It is run again, after a delay."""
    ASKED = "asked"
    """It is run again, after the delay that its processor asked for."""
    HELD_BACK = "held back"
    """It is run again when a batch succeeds."""
    PROBE = "probe"
    """It is divided: one of its events is run alone."""
    HALVES = "halves"
    """It is divided: its halves are run alone."""
    NAMED = "named"
    """It is divided: the events that its processor named are run again."""
    NONE = "none"
    """Nothing: another worker has it."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a batch is retried."""

    next: NextStep
    wait_seconds: float = 0.0
    """How long until the next step; 0 if it follows at once, or if the time is not known."""
    parts: Sequence[Part] = ()
    """The parts that it was divided into and that are run again."""
    dead_events: int = 0
    """How many of its other events are dead."""

    def describe(self, size: int) -> str:
        """The outlook in words, for a batch of this size."""
        again = f"again in {self.wait_seconds:.1f} s"
        named = sum(part.header.size for part in self.parts)
        words = {
            NextStep.RETRY: again,
            NextStep.ASKED: f"{again}, as its processor asked",
            NextStep.HELD_BACK: "again when a batch succeeds, as all fail",
            NextStep.PROBE: "one of its events is run alone",
            NextStep.HALVES: "its halves are run alone",
            NextStep.NAMED: f"{named} of {size} events failed, {again}",
            NextStep.NONE: "but another worker has it",
        }
        return words[self.next]
