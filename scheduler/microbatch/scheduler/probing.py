"""Probing: while the breaker is open, one batch at a time shows whether the outage is over.

The cause of all failures may also be bad events. So each probe is different: one event of the batch that has
waited longest, a different event each time, and alternately a new batch of events that wait to be cut. So
many bad events in a row hold the others back only for some probes.
"""

from __future__ import annotations

from dataclasses import replace

from microbatch.broker.broker import Broker
from microbatch.broker.wire.in_flight import DueBatch, probe_of
from microbatch.broker.wire.run_record import Mode
from microbatch.scheduler.gates import Gates


class Probing:
    """Chooses the probes of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker, gates: Gates) -> None:
        self._broker = broker
        self._gates = gates
        self._last: str | None = None
        self._new_is_next = False

    def next(self, now_ms: int) -> DueBatch | None:
        """The batch of one event that must get a job now as a probe, if there is one.

        If there is none, a new batch may be cut instead.
        """
        if not self._gates.probe_is_due(now_ms) or self._is_probing():
            return None
        self._gates.probed(now_ms)
        probe = self._choose(now_ms)
        self._last = None if probe is None else probe.id
        return probe

    def _is_probing(self) -> bool:
        """Whether the previous probe still runs. It may hang until its time limit."""
        return self._last is not None and self._broker.recovery.has_a_job(self._last)

    def _choose(self, now_ms: int) -> DueBatch | None:
        batch = self._broker.recovery.first_retry()
        if batch is None or (self._new_is_next and self._broker.events.waiting()):
            self._gates.let_a_probe_be_cut()
            self._new_is_next = False
            return None
        self._new_is_next = True
        if batch.header.size == 1:
            return replace(batch, then=replace(batch.then, mode=Mode.PROBE))
        # The rest stays first of all that wait, so its other events are tried before one is repeated.
        probe, rest = probe_of(batch, batch.run, now_ms, batch.run.since_ms)
        if not self._broker.ledger.divide(batch.id, batch.run, [probe, rest]):
            return None
        return DueBatch(probe.id, probe.header, probe.run, probe.run)
