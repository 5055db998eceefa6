"""The intervals and time limits that the parts of the system use, in one place.

A time that only one module uses stays in that module. The times of a connection are in ``transport``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


class Leased(Protocol):
    """The settings that the times depend on."""

    @property
    def lease_ttl(self) -> float:
        """How long a lease lasts if it is not renewed, in seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The times of one batcher."""

    # The lease and the clock.

    acquire_seconds: float
    """How often a standby scheduler tries to become active."""
    announce_seconds: float
    """How often a scheduler shows that it is running."""
    renew_seconds: float
    """How often the active scheduler renews its lease."""

    clock_seconds: float = 1.0
    """How often the server is asked for the time."""

    # The active scheduler.

    reconcile_seconds: float = 0.5
    """How often it looks at what is due."""
    maintain_seconds: float = 5.0
    """How often it does less urgent work: the marks that rates are computed from, RQ's registries."""
    look_again_ms: int = 8_000
    """How long the scheduler leaves a batch alone that waits in RQ's queue. Longer if many have a job."""
    on_the_way_ms: int = 3_000
    """How long a worker may take to claim a batch after it has moved its job from the queue."""
    first_sign_seconds: float = 3.0
    """How long workers have to show themselves after a scheduler has become active."""
    finished_job_seconds: int = 10
    """How long RQ still shows the job of a batch that is done."""
    breaker_opens_after_ms: int = 10_000
    """How long all runs must have failed before the breaker opens."""
    neglected_ms: int = 3_600_000
    """How long results may wait, with no consumer seen, before they count as neglected."""
    overdue_ms: int = 5_000
    """How late a batch may be looked at before the audit reports it. Later if there are many batches."""

    # Workers.

    run_ttl_ms: int = 8_000
    """How long a worker may be silent before its batch is run elsewhere."""
    beat_seconds: float = 2.0
    """How long after a claim its first heartbeat is sent. Later ones are sent twice as often."""
    long_run_seconds: float = 0.5
    """How long a run may take before it is shown in RQ."""
    overrun_seconds: float = 5.0
    """How long past its time limit a run may go on before its process is ended."""
    grace_seconds: float = 25.0
    """How long workers may take, by default, to finish their batches when their pool stops.

    This is less than the 30 seconds after which Kubernetes and others kill the pool.
    """
    shown_worker_seconds: int = 15
    """How long RQ still shows a worker after its last sign of life."""

    # Producers and consumers.

    replica_ms: int = 1_000
    """How long a replica may take to confirm an event."""
    reply_ttl_ms: int = 60_000
    """How long a process may not read the replies to its events before they are lost."""
    longest_wait_seconds: float = 5.0
    """The longest that a consumer blocks at the server before it does its other work."""
    acknowledge_seconds: float = 0.1
    """How long the acknowledgement of a handled result may be delayed while others are handled."""
    absence_seconds: float = 4.0
    """How long a consumer gets no result before it looks for a missing scheduler or worker, and how often it
    looks from then on."""
    error_pause_seconds: float = 1.0
    """How long a background consumer waits after an error before it goes on."""
    stumble_seconds: float = 0.5
    """How long the thread that sends lingering events waits after the program's own log has raised."""
    close_seconds: float = 5.0
    """How long the end of a process is delayed for events that it has not sent, and for running handlers."""

    @classmethod
    def of(cls, settings: Leased) -> Self:
        """The times that follow from these settings."""
        ttl = settings.lease_ttl
        return cls(acquire_seconds=ttl / 20, announce_seconds=ttl / 2, renew_seconds=ttl / 3)
