"""What is written when a batch ends: its entry for a handler, and the replies to its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.in_flight import recorded_at_ms
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.reply import EXPIRED, Replies, Reply


@dataclass(frozen=True, slots=True)
class Ending:
    """What the script that ends a batch writes besides."""

    entry: Sequence[str | bytes | int | float] = ()
    """The fields and values of its entry on the results stream; empty if there is nothing to handle."""
    replies: Replies | None = None
    """The replies to its events, for those clients that wait for them."""
    expired: int = 0
    """How many of its events have expired, and were not processed."""


PLAIN_END = Ending()
"""The end of a batch without anything to handle."""


def end_of_the_dead(batch_id: str, header: Header, failure: Failure, events: Sequence[bytes]) -> Ending:
    """How a dead batch ends: with a failure for the handler, and for each event that wants a reply."""
    recorded_ms = recorded_at_ms(header, events[0]) if events else header.cut_at_ms
    entry = Outcome(batch_id, header, failure.attempts, recorded_ms, failure=failure).encode()
    replies = Replies()
    replies.add(events, Reply(failure=failure))
    return Ending(entry, replies)


def end_of_the_expired(events: Sequence[bytes]) -> Ending:
    """How events end that have expired."""
    replies = Replies()
    replies.add(events, EXPIRED)
    return Ending((), replies, len(events))
