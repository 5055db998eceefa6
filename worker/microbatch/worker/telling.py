"""Tells the observer about a worker's batches."""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.observe.observer import BatchRun, PublicError
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch
from microbatch.worker.user_errors import kind_of, locate


def run_of(broker: Broker, batch: ClaimedBatch) -> BatchRun:
    """The current run of a batch, without its events."""
    return BatchRun(broker.config.name, batch.id, batch.header, batch.run.attempt)


def public(error: BaseException | str) -> PublicError:
    """An error of the processor, without text that may quote events."""
    return PublicError(kind_of(error), locate(error))


def tell_claimed(broker: Broker, batch: ClaimedBatch, claim: Claim) -> None:
    """Tell the observer that this worker has claimed a batch."""
    if not broker.observer.sees_success:
        return
    run, recorded_at_ms = run_of(broker, batch), _recorded_at_ms(batch)
    broker.observer.claimed(run=run, at_ms=claim.now_ms, recorded_at_ms=recorded_at_ms)


def tell_committed(broker: Broker, batch: ClaimedBatch, events: int) -> None:
    """Tell the observer that ``events`` events of a batch are done."""
    if not broker.observer.sees_success:
        return
    run, recorded_at_ms = run_of(broker, batch), _recorded_at_ms(batch)
    broker.observer.committed(run=run, events=events, recorded_at_ms=recorded_at_ms)


def _recorded_at_ms(batch: ClaimedBatch) -> int:
    """When the batch's oldest event was recorded; when it was cut, if its events have been removed."""
    return batch.recorded_at_ms if batch.events else batch.header.cut_at_ms
