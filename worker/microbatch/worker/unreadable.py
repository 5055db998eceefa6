"""Events that can't be read: foreign data, broken JSON, or too large.

Producers refuse to record such events, so another program has written them. They say nothing about the
processor. They are dead at once, and the other events of their batch run without them.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic_core import from_json

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.batch import PartialFailure, Reject, RetryLater
from microbatch.broker.wire.event import event_body
from microbatch.broker.wire.in_flight import ClaimedBatch


def body_of(raw: bytes, most_bytes: int) -> bytes:
    """The JSON of an event. Raises DecodeError if no producer wrote it, or if it is over ``most_bytes``."""
    try:
        body = event_body(raw)
    except DecodeError as error:
        what = "the event can't be read"
        raise DecodeError(f"{what}: {error}", f"{what}: {error.public}") from None
    if len(body) > most_bytes:
        raise DecodeError(f"the event has {len(body):,} bytes; the most is {most_bytes:,}")
    return body


def without_unreadable(batch: ClaimedBatch, read: Callable[[bytes], bytes]) -> PartialFailure | None:
    """The failure of a batch with such events. None if it has none: the processor's annotation does not fit.

    ``read`` is `body_of` with the limit in force.
    """
    errors: dict[int, BaseException | str] = {}
    for position, raw in enumerate(batch.events):
        try:
            from_json(read(raw))
        except DecodeError as error:
            errors[position] = Reject(error)
        except ValueError as error:
            errors[position] = Reject(DecodeError(f"the event is not JSON: {error}", "the event is not JSON"))
    if not errors:
        return None
    later = RetryLater(0)
    return PartialFailure({position: errors.get(position, later) for position in range(len(batch.events))})
