"""The observer: is told when the state of events or of a batch has changed.

    recorded ─▶ cut ─▶ claimed ─▶ committed ─▶ handled
                         ├──────▶ failed ─▶ claimed again, whole or in parts
                         └────▶ dead ─▶ handled

It is told facts, and never what is in an event. An error is passed as its `PublicError`.
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
    """The process that decided what happens to a batch."""

    WORKER = "worker"
    """The batch's processor raised."""
    SCHEDULER = "scheduler"
    """The batch's worker died, or the batch was held back for too long."""


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
    """What may be shown of an error."""

    kind: str
    """The name of its class, or another one of few texts."""
    summary: str
    """One line: its kind and where it was raised or, if Microbatch raised it, its message."""


class Observer(Protocol):
    """Is told of each change by the process that made it, when the server has answered.

    The methods are called on the thread that made the change. In a producer, that may be several threads at
    once. So the methods must be quick. An error that they raise is ignored; the first one is logged.

    A change whose reply was lost may not be reported. The counters on the server include it.

    Times are unix milliseconds. ``recorded_at_ms`` is when the oldest event was recorded, by its producer's
    clock. All others are by the server's clock.
    """

    sees_success: bool
    """Whether it is also told of successes: recorded, claimed, committed, handled.

    If not, the callers do not gather what they would tell it.
    """

    def recorded(self, *, batcher: str, count: int, waiting: int) -> None:
        """``count`` events were recorded in one call or in one of its chunks. ``waiting`` events wait now."""

    def cut(self, *, batcher: str, batches: Sequence[NewBatch]) -> None:
        """``batches`` were cut in one transaction. There is at least one."""

    def claimed(self, *, run: BatchRun, at_ms: int, recorded_at_ms: int) -> None:
        """A worker has claimed a batch, and runs it next."""

    def committed(self, *, run: BatchRun, events: int, recorded_at_ms: int) -> None:
        """``events`` of a batch are done: all of them, or those that a `PartialFailure` did not name."""

    def failed(self, *, run: BatchRun, error: PublicError, outlook: Outlook, by: Role, at_ms: int) -> None:
        """A run has failed, and its batch, or a part of it, is retried as ``outlook`` says."""

    def dead(self, *, run: BatchRun, error: PublicError, by: Role, at_ms: int) -> None:
        """A batch is dead, with its events. It may be a part that was not a batch of its own before."""

    def handled(self, *, run: BatchRun, recorded_at_ms: int, is_dead: bool) -> None:
        """A handler has returned for a result or a dead batch, and the entry is gone from the stream."""
