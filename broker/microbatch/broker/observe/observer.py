"""The observer: what is told when the state of events or of a batch has changed.

    recorded ─▶ cut ─▶ claimed ─▶ committed ─▶ handled
                         ├──────▶ failed ─▶ claimed again, whole or in parts
                         └────▶ dead ─▶ handled

It is told facts, and never what is in an event: an error comes as its `PublicError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from microbatch.broker.observe.outlook import Outlook
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.in_flight import NewBatch


class Role(StrEnum):
    """Who decided what becomes of a batch."""

    WORKER = "worker"
    """Its processor raised."""
    SCHEDULER = "scheduler"
    """Its worker died, or it was held back for too long."""


@dataclass(frozen=True, slots=True)
class BatchRun:
    """A batch, and one of its runs."""

    batcher: str
    id: str
    header: Header
    """Its trigger, its size, when it was cut, and the batch that it is a part of."""
    attempt: int
    """Which run of the batch this is, from 1."""


@dataclass(frozen=True, slots=True)
class PublicError:
    """An error, as far as it may be told."""

    kind: str
    """The name of its class, or another text of which there are few."""
    summary: str
    """Its kind and where it was raised, on one line; what it says only if it is one of ours."""


class Observer(Protocol):
    """Is told of each change, by the process that has made it, when the server has answered.

    The methods are called on the thread that made the change, and in a producer on several threads at once.
    So they are to be quick. What they raise is logged once and ignored.

    A change whose reply was lost may not be told. The counters at the server have it.

    Moments are unix milliseconds: ``recorded_at_ms``, when the oldest event was recorded, by its producer's
    clock; all others by the server's.
    """

    sees_success: bool
    """Whether it is told what goes well too: recorded, claimed, committed, handled.

    If not, nobody spends the time to gather what it would be told.
    """

    def recorded(self, *, batcher: str, count: int, waiting: int) -> None:
        """Events were recorded in one call, or one of its chunks. So many wait now."""

    def cut(self, *, batcher: str, batches: Sequence[NewBatch]) -> None:
        """Batches were cut in one transaction, at least one."""

    def claimed(self, *, run: BatchRun, at_ms: int, recorded_at_ms: int) -> None:
        """A worker has claimed a batch, and runs it next."""

    def committed(self, *, run: BatchRun, events: int, recorded_at_ms: int) -> None:
        """So many events of a batch are done: all of them, or those that a `PartialFailure` did not name."""

    def failed(self, *, run: BatchRun, error: PublicError, outlook: Outlook, by: Role, at_ms: int) -> None:
        """A run has failed, and its batch, or a part of it, is tried again as ``outlook`` says."""

    def dead(self, *, run: BatchRun, error: PublicError, by: Role, at_ms: int) -> None:
        """A batch was given up, with its events. A part may be dead that was no batch of its own before."""

    def handled(self, *, run: BatchRun, recorded_at_ms: int, is_dead: bool) -> None:
        """A handler has returned, and its entry is gone: with a result, or with a dead batch."""
