"""The times that the parts of the system work by, in one place.

A time that concerns one module alone stays there, and so do those of a connection (``transport``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


class Leased(Protocol):
    """The settings that times come from."""

    @property
    def lease_ttl(self) -> float:
        """How long the lease of a scheduler that is gone stays, in seconds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The times of one batcher."""

    # The lease and the clock.

    acquire_seconds: float
    """How often a scheduler that stands by tries to become active."""
    announce_seconds: float
    """How often a scheduler shows that it is there."""
    renew_seconds: float
    """How often the active scheduler prolongs its lease."""

    clock_seconds: float = 1.0
    """How often the server is asked for the time."""

    # What the active scheduler looks after.

    reconcile_seconds: float = 0.5
    """How often it looks at what is due."""
    maintain_seconds: float = 5.0
    """How often it does what can wait: the marks that rates are told by, RQ's registries."""
    look_again_ms: int = 8_000
    """How long a batch that waits in RQ's queue is left alone."""
    on_the_way_ms: int = 3_000
    """How long a worker may take from the queue to the batch."""
    first_sign_seconds: float = 3.0
    """How long workers have to show themselves when a scheduler has become active."""
    finished_job_seconds: int = 10
    """How long the job of a batch that is done can be looked at in RQ."""
    breaker_opens_after_ms: int = 10_000
    """The breaker opens when nothing but failures came for so long."""
    neglected_ms: int = 3_600_000
    """How long results may wait, and no consumer be seen, before they are neglected."""
    overdue_ms: int = 5_000
    """How late a batch may be looked at before that is a finding; later where there are many to look at."""

    # Workers.

    run_ttl_ms: int = 8_000
    """How long a worker may be silent before its batch is run elsewhere."""
    beat_seconds: float = 2.0
    """How old a claim is when the first beat comes. Further ones come twice as often."""
    long_run_seconds: float = 0.5
    """How long a run may take before somebody is told of it."""
    overrun_seconds: float = 5.0
    """How long past its time limit a run may go on before its process is ended."""
    grace_seconds: float = 25.0
    """How long workers may take for the batches in hand when their pool stops, if nothing else is said.

    Less than the 30 seconds after which Kubernetes and others kill it.
    """
    shown_worker_seconds: int = 15
    """How long RQ still shows a worker that nobody shows to be alive."""

    # Producers and consumers.

    replica_ms: int = 1_000
    """How long a replica may take to confirm an event."""
    longest_wait_seconds: float = 5.0
    """How long a consumer waits at the server before it looks at what else there is to do."""
    acknowledge_seconds: float = 0.1
    """For how long a result may be handled and not be acknowledged yet, while others are handled."""
    absence_seconds: float = 4.0
    """For how long nothing came before a consumer looks who is not there, and how often it looks then."""
    error_pause_seconds: float = 1.0
    """How long a background consumer waits after an error before it goes on."""
    stumble_seconds: float = 0.5
    """The same for the thread that sends what lingers, where the program's own log has raised."""
    close_seconds: float = 5.0
    """How long the end of a process is put off for what it has not sent yet, and for handlers that run."""

    @classmethod
    def of(cls, settings: Leased) -> Self:
        """The times that go with these settings."""
        ttl = settings.lease_ttl
        return cls(acquire_seconds=ttl / 20, announce_seconds=ttl / 2, renew_seconds=ttl / 3)
