"""What the user's code sees of a batch besides its events, and the errors that it may raise for them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, SupportsIndex

from microbatch.broker.wire.header import Header, Trigger


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch, as it is passed to processors and handlers that have a second parameter."""

    id: str
    batcher: str
    trigger: Trigger
    """Why it was cut: ``size``, ``tick`` or ``flush``."""
    size: int
    """How many events it holds."""
    attempt: int
    """Which run of its processor this is, from 1."""
    cut_at: datetime
    """When it was cut, by the server's clock."""
    recorded_at: datetime
    """When its oldest event was recorded, by the producer's clock."""

    @classmethod
    def of(cls, batcher: str, batch_id: str, header: Header, attempt: int, recorded_at_ms: int) -> BatchInfo:
        return cls(
            id=batch_id,
            batcher=batcher,
            trigger=header.trigger,
            size=header.size,
            attempt=attempt,
            cut_at=moment(header.cut_at_ms),
            recorded_at=moment(recorded_at_ms),
        )


class PartialFailure(Exception):
    """Raised by a processor when some events of its batch failed and the others are done.

    Args:
        errors: the error of each failed event, by the event's position in the batch, from 0. An error is an
            exception or a text. Anything else is converted to text.
        result: the result for the other events, as the processor would have returned it. It is ignored if the
            batch has only one event and that event failed.

    Raises:
        TypeError: a position is not an integer. Whatever ``operator.index`` accepts is one, such as NumPy's
            integers, but True and False are not.
    """

    def __init__(self, errors: Mapping[int, BaseException | str], result: Any = None) -> None:
        self.errors = {
            _index(position): error if isinstance(error, BaseException) else str(error)
            for position, error in errors.items()
        }
        self.result = result
        super().__init__(f"{len(self.errors)} events failed")


class Reject(Exception):
    """Raised by a processor to give its batch up at once. The batch is dead, neither retried nor divided.

    As the error of an event in a `PartialFailure`, it gives up only that event.

    Args:
        error: the reason, an exception or a text.
    """

    def __init__(self, error: BaseException | str) -> None:
        self.error = error if isinstance(error, BaseException) else str(error)
        super().__init__(str(error))


class RetryLater(Exception):
    """Raised by a processor to run its batch again later. This does not count against ``max_retries``.

    As the error of an event in a `PartialFailure`, it delays only that event. After ``retry_for`` it is a
    failure like any other.

    Args:
        seconds: how long to wait, from 0 to 3,600 seconds.

    Raises:
        ValueError: ``seconds`` is not such a number.
    """

    most_seconds: ClassVar[int] = 3_600
    """The longest wait that a processor may ask for, in seconds."""

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not 0 <= seconds <= self.most_seconds:
            raise ValueError(f"RetryLater takes 0 to {self.most_seconds:,} seconds, not {seconds!r}")
        self.seconds = float(seconds)
        super().__init__(f"again in {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """A dead batch, as the failure handler gets it; or a result that the result handler can't be given."""

    batch: BatchInfo
    error: str
    """The last attempt's error, on one line."""
    traceback: str
    """The last attempt's traceback; empty if there is none, as when the worker died."""
    events: list[Any]
    """The events, as plain JSON values. They stay in Redis as well. Empty if the batch is done."""
    result: Any = None
    """None for a dead batch. Otherwise the batch is done, and this is its result, as a plain JSON value. It
    does not fit the annotation of ``result_handler``."""


def _index(position: object) -> int:
    """A position of any integer type as a plain integer. Raises TypeError if it is not an integer."""
    if not isinstance(position, bool) and isinstance(position, SupportsIndex):
        with suppress(TypeError):  # NumPy's bool and arrays have `__index__`, and it raises
            return operator.index(position)
    raise TypeError(f"PartialFailure: an event's position is an integer, not {position!r}")


def moment(unix_ms: int) -> datetime:
    """A point in time from its unix milliseconds."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
