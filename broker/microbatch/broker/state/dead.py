"""Dead batches, kept with their events until they are replayed, requeued, purged or retired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from microbatch.broker.errors import DecodeError
from microbatch.broker.lua import scripts
from microbatch.broker.state.due import queued
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, Steps, call, command, each
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.run_record import RunRecord
from microbatch.broker.wire.text import printable
from microbatch.broker.wire.versioned import LAST_MS

_AT_ONCE = 500
_STEP_EVENTS = 10_000  # replayed in one step, so that other commands have their turn
_STEP_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class DeadBatch:
    """A dead batch, without its events."""

    id: str
    died_at_ms: int
    header: Header
    failure: Failure


class Dead(Verbs[S_co]):
    """The dead batches of one batcher."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def count(self) -> Request[int]:
        """How many batches are dead."""
        return command("ZCARD", self._keys.dead)

    def __iter__(self: Dead[Server]) -> Iterator[DeadBatch]:
        """The dead batches, first died first. One that can't be read is left out; `verify` names it."""
        start = 0
        while page := self._page(start):
            ids = [batch_id for batch_id, _ in page]
            names = [self._keys.batch(batch_id) for batch_id in ids]
            heads = self.server.perform(each(*(("LRANGE", name, 0, 1) for name in names)))
            lengths = self.server.perform(each(*(("LLEN", name) for name in names)))
            for (batch_id, died_at_ms), head, length in zip(page, heads, lengths, strict=True):
                try:
                    header, failure = Header.decode(head[0]), Failure.decode(head[1])
                except (IndexError, TypeError, DecodeError):
                    continue
                # After an interrupted replay there are fewer events than the header says.
                yield DeadBatch(batch_id, died_at_ms, replace(header, size=length - 2), failure)
            start += len(ids)

    def _page(self: Dead[Server], start: int) -> list[tuple[str, int]]:
        flat = self.server.do("ZRANGE", self._keys.dead, start, start + _AT_ONCE - 1, "WITHSCORES")
        scores = (min(max(float(score), 0), LAST_MS) for score in flat[1::2])
        return [(printable(raw), int(died_at)) for raw, died_at in zip(flat[::2], scores, strict=True)]

    @verb
    def events(self, batch_id: str) -> Request[list[bytes]]:
        """A dead batch's events as they are stored; none if it is not dead."""
        asked = ("LRANGE", self._keys.batch(batch_id), 2, -1), ("ZSCORE", self._keys.dead, batch_id)
        return each(*asked).then(_events_if_dead)

    @verb
    def replay(self, batch_id: str) -> Steps[tuple[int, int]]:
        """Put a dead batch's events back into the waiting list. Returns how many, and how many wait now.

        A large batch takes several steps. If a step raises, the events of the steps before it wait again, and
        the others are still dead under the same id.
        """
        keys = self._keys
        names = (keys.batch(batch_id), keys.dead, keys.events, keys.stats)
        total = 0
        while True:
            reply = yield from call(scripts.REPLAY, names, (batch_id, _STEP_EVENTS, _STEP_BYTES))
            count, left, waiting = (int(number) for number in reply)
            total += count
            if not left:
                return total, waiting

    @verb
    def purge(self, batch_id: str) -> Request[int]:
        """Delete a dead batch with its events. Returns how many events it had."""
        names = (self._keys.batch(batch_id), self._keys.dead, self._keys.stats)
        return call(scripts.PURGE, names, (batch_id,)).then(int)

    @verb
    def retire(
        self, *, before_ms: int | None, kept: int | None, limit: int
    ) -> Request[tuple[int, list[str]]]:
        """Delete up to ``limit`` of the oldest dead batches: those that died before ``before_ms``, and those
        beyond the newest ``kept``. None means no such bound.

        Returns how many events were deleted, and the ids of the batches.
        """
        keys = self._keys
        before = "-inf" if before_ms is None else before_ms
        args = (keys.batch(""), before, -1 if kept is None else kept, limit)
        return call(scripts.RETIRE, (keys.dead, keys.stats), args).then(_retired)

    @verb
    def requeue(self, batch_id: str, *, due_ms: int, died_before_ms: int) -> Request[bool]:
        """Put a dead batch in flight again as it is, with a new run record, so that it has all its retries.

        False if it is not dead, or did not die before ``died_before_ms``.
        """
        keys = self._keys
        names = (keys.batch(batch_id), keys.inflight, keys.dead, keys.stats)
        args = (batch_id, RunRecord().encode(), queued(due_ms), died_before_ms)
        return call(scripts.REQUEUE, names, args).then(bool)


def _events_if_dead(replies: Replies) -> list[bytes]:
    items, score = replies
    return items if isinstance(items, list) and isinstance(score, bytes) else []


def _retired(reply: Replies) -> tuple[int, list[str]]:
    events, ids = reply
    return int(events), [printable(raw) for raw in ids]
