"""Room: how many more batches may get a job, by ``max_in_flight``."""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.state.recovery import Survey

_FIRST_RAMP = 2
"""How many batches may have a job when the breaker has just closed. The number doubles with each survey."""
_NO_RAMP = 10**9


class Room:
    """The room of one batcher, for the scheduler that holds its lease.

    Only this scheduler gives batches a job. So the last count, plus the batches that were given a job since,
    is never too low, and the server is not asked until the bound seems to be reached.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bound = broker.in_flight_bound
        self.reset()

    def reset(self) -> None:
        """Start again, because the scheduler has just become active."""
        self._with_a_job = self.retries_due = 0
        self._ramp = _NO_RAMP
        self._workers: int | None = None
        self._has_grown = False

    @property
    def depends_on_workers(self) -> bool:
        """Whether the bound depends on the number of workers. Then `set_workers` must be called regularly."""
        return self._bound.per_worker

    def set_workers(self, workers: int) -> None:
        """Take note of how many workers there are, and publish the bound if it has changed."""
        most = self._bound.most(workers)
        if self._workers is None or most != self._most:
            self._broker.publish_in_flight(most)
        self._has_grown |= most > self._most
        self._workers = workers

    def update(self, survey: Survey) -> None:
        """Take note of a survey. A ramp continues."""
        self._with_a_job, self.retries_due = survey.with_a_job, survey.retries_due
        self._ramp = min(self._ramp * 2, _NO_RAMP)

    def start_ramp(self) -> None:
        """Allow only a few batches at first, because the breaker has just closed."""
        self._ramp = _FIRST_RAMP

    def has_grown(self) -> bool:
        """Whether the bound has grown since the last call, so that events that were held back may be cut."""
        grown, self._has_grown = self._has_grown, False
        return grown

    def spend(self, batches: int, seen: int | None = None) -> None:
        """Take note that this number of batches was given a job.

        ``seen``: how many had a job before, if that was seen and nothing was given a job in between.
        """
        if seen is not None:
            self._with_a_job = min(self._with_a_job, seen)
        self._with_a_job += batches

    def for_retries(self) -> int:
        """How many batches that wait for a retry may get a job."""
        return max(0, min(self._ramp, self._most) - self._with_a_job)

    def for_cuts(self, seen: int | None = None) -> int:
        """How many new batches may be cut. Retries come first.

        ``seen``: how many batches had a job at a look. If something was given a job since, the cut must fail.
        """
        most = min(self._ramp, self._most)
        with_a_job = self._with_a_job if seen is None else min(self._with_a_job, seen)
        room = most - with_a_job
        if room <= 0 and most == self._most:
            # The scheduler is woken when a tenth is free, so that it can cut many batches in one transaction.
            enough = most - min(max(most // 10, 1), 100)
            room = self._broker.recovery.room(most, enough)
            self._with_a_job = most - room
        return max(0, room - self.retries_due)

    @property
    def _most(self) -> int:
        return self._bound.most(self._workers or 1)
