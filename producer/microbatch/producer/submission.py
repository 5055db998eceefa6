"""A submitted event on its way to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from microbatch.broker.errors import EncodeError, TooManyPending
from microbatch.broker.transport.clock import Clock, host_ms
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.fields import Fields, Tag
from microbatch.broker.wire.reply import Address

NEEDS_PER_EVENT = "submit() needs Config(per_event=True): a processor with one result per event"
_YEAR_SECONDS = 31_536_000


@dataclass(frozen=True, slots=True)
class Submission:
    """An event that wants a reply."""

    number: int
    body: bytes
    recorded_at_ms: int
    event_id: str = ""
    expires: float | None = None
    """In how many seconds it expires, from its recording."""

    def encode(self, client: str, ahead_ms: int = 0) -> bytes:
        """The event as it is stored, with its reply going to the stream of this client.

        ``ahead_ms``: how far the server's clock is ahead of this host's. Only for an event that expires.
        """
        fields: Fields = ((Tag.REPLY_TO, Address(client, self.number).encode()),)
        if self.expires is not None:
            at_ms = self.recorded_at_ms + ahead_ms + round(self.expires * 1000)
            fields += ((Tag.EXPIRES, b"%d" % at_ms),)
        return Event(self.body, self.recorded_at_ms, fields).encode()


def server_ahead_ms(chunk: Sequence[Submission], clock: Clock) -> int:
    """How far the server's clock is ahead of this host's; 0 if none of these events expires.

    Raises as ``clock`` does.
    """
    if all(submission.expires is None for submission in chunk):
        return 0
    return clock.now_ms() - host_ms()


def next_write(waiting: Sequence[Submission], most_events: int, most_bytes: int) -> int:
    """How many of these events, the oldest first, go in one write. One with an id goes alone."""
    if waiting[0].event_id:
        return 1
    size = 0
    for count, submission in enumerate(islice(waiting, most_events)):
        size += len(submission.body)
        if count and (submission.event_id or size > most_bytes):
            return count
    return min(len(waiting), most_events)


def too_many(most: int) -> TooManyPending:
    """The error of a call that finds ``most`` replies waited for."""
    return TooManyPending(f"{most:,} replies are waited for (max_pending); nothing was recorded")


def check_seconds(name: str, seconds: object) -> None:
    """Raises EncodeError unless this is None, or a number of seconds above 0."""
    if seconds is None or (type(seconds) in (int, float) and 0 < seconds <= _YEAR_SECONDS):  # type: ignore[operator]
        return
    raise EncodeError(f"{name} is a number of seconds, above 0 and up to {_YEAR_SECONDS:,}, not {seconds!r}")
