"""The gates: why cutting is held back, and how many batches may get a job now.

Events that are not cut stay in the events list, where they cost least and keep their order. Cutting is held
back if too many results wait for a handler, if too many batches have a job, or if the breaker is open.
"""

from __future__ import annotations

import logging

from microbatch.broker.broker import Broker
from microbatch.broker.state.recovery import Survey
from microbatch.scheduler.room import Room

log = logging.getLogger(__name__)

_FIRST_PROBE_MS = 1_000
_LONGEST_PROBE_MS = 30_000


class Gates:
    """The gates of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._name = broker.config.name
        self.room = Room(broker)
        self._queued = 0
        self._opened_ms = 0
        self._probe_at_ms = 0
        self._probe_wait_ms = _FIRST_PROBE_MS
        self._may_cut_a_probe = False
        self._reason = ""

    def reset(self) -> None:
        """Start again, because the scheduler has just become active."""
        self.room.reset()
        self._opened_ms, self._may_cut_a_probe = 0, False
        self._reason = ""
        self._broker.publish_held_back("")

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open. Then only a probe gets a job."""
        return self._opened_ms > 0

    def update(self, survey: Survey, now_ms: int) -> None:
        """Take note of a survey, and publish whether the breaker is open."""
        self.room.update(survey)
        self._queued = survey.queued_now
        self._may_cut_a_probe &= survey.health.is_open
        if survey.health.is_open and not self.is_open:
            self._opened_ms, self._probe_wait_ms = survey.health.opened_ms, _FIRST_PROBE_MS
            self._probe_at_ms = now_ms + _FIRST_PROBE_MS
            log.warning("%s: held back: %s", self._name, survey.health)
            self._publish(str(survey.health), self._probe_at_ms)
        elif self.is_open and survey.health.is_open:
            # The server's clock may have been set back. And a run that hangs reports no failure for a long
            # time, so the breaker is kept.
            self._probe_at_ms = min(self._probe_at_ms, now_ms + self._probe_wait_ms)
            self._broker.breaker.keep()
        elif self.is_open:
            seconds = (now_ms - self._opened_ms) / 1000
            self._opened_ms = 0
            self.room.start_ramp()
            log.warning("%s: no longer held back: a batch succeeded after %.0f s", self._name, seconds)
            self._publish("")

    def probe_is_due(self, now_ms: int) -> bool:
        """Whether it is time to try a batch while the breaker is open."""
        # Batches that wait for a worker are tried anyway.
        return self.is_open and now_ms >= self._probe_at_ms and not self._queued

    def probed(self, now_ms: int) -> None:
        """Take note that a batch is tried. The next wait is twice as long."""
        self._probe_wait_ms = min(self._probe_wait_ms * 2, _LONGEST_PROBE_MS)
        self._probe_at_ms = now_ms + self._probe_wait_ms
        self._broker.publish_held_back(self._reason, self._probe_at_ms)

    def let_a_probe_be_cut(self) -> None:
        """Allow one batch to be cut although the breaker is open, at the next tick at the latest."""
        self._may_cut_a_probe = True

    @property
    def retries_wait(self) -> bool:
        """Whether retries were due at the last survey."""
        return self.room.retries_due > 0

    def spend(self, batches: int, seen: int | None = None) -> None:
        """Take note that this number of batches was given a job, as `Room.spend` does."""
        self.room.spend(batches, seen)
        self._may_cut_a_probe = False

    def room_for_retries(self) -> int:
        """How many batches that wait for a retry may get a job."""
        return 0 if self.is_open else self.room.for_retries()

    def room_for_cuts(self, seen: int | None = None) -> int:
        """How many new batches may be cut. ``seen`` is as in `Room.for_cuts`."""
        if self.is_open:
            return int(self._may_cut_a_probe)
        if self._too_many_results():
            return 0
        return self.room.for_cuts(seen)

    def _too_many_results(self) -> bool:
        most = self._broker.config.results_max
        if most is None:
            return False
        unhandled = self._broker.unhandled.count()
        wait = "1 result waits" if unhandled == 1 else f"{unhandled:,} results wait"
        held = unhandled >= most
        if held != bool(self._reason):
            nobody = f", and {found}" if held and (found := self._broker.unhandled.no_consumer()) else ""
            reason = f"{wait} for a handler; results_max is {most:,}{nobody}" if held else ""
            log.warning("%s: %s", self._name, f"held back: {reason}" if held else "no longer held back")
            self._publish(reason)
        return held

    def _publish(self, reason: str, probe_at_ms: int = 0) -> None:
        self._broker.publish_held_back(reason, probe_at_ms)
        self._reason = reason  # only after it was published: if that fails, the next look tries again
