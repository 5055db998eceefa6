"""Dead batches: they are kept with their events until somebody decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from microbatch.broker.errors import DecodeError
from microbatch.broker.lua import scripts
from microbatch.broker.state.due import queued
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.run_record import RunRecord
from microbatch.broker.wire.text import printable
from microbatch.broker.wire.versioned import LAST_MS

_AT_ONCE = 500
_STEP_EVENTS = 10_000  # put back at once; then other commands have their turn
_STEP_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class DeadBatch:
    """A dead batch, without its events."""

    id: str
    died_at_ms: int
    header: Header
    failure: Failure


class Dead:
    """The dead batches of one batcher."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def count(self) -> int:
        """How many batches are dead."""
        return int(self._server.do("ZCARD", self._keys.dead))

    def __iter__(self) -> Iterator[DeadBatch]:
        """The dead batches, first died first. One that can't be read is left out: `verify` names it."""
        start = 0
        while page := self._page(start):
            ids = [batch_id for batch_id, _ in page]
            names = [self._keys.batch(batch_id) for batch_id in ids]
            heads = self._server.each(*(("LRANGE", name, 0, 1) for name in names))
            lengths = self._server.each(*(("LLEN", name) for name in names))
            for (batch_id, died_at_ms), head, length in zip(page, heads, lengths, strict=True):
                try:
                    header, failure = Header.decode(head[0]), Failure.decode(head[1])
                except (IndexError, TypeError, DecodeError):
                    continue
                # A replay that was interrupted has left fewer events than the header tells.
                yield DeadBatch(batch_id, died_at_ms, replace(header, size=length - 2), failure)
            start += len(ids)

    def _page(self, start: int) -> list[tuple[str, int]]:
        with self._server.translated():
            pairs: Any = self._server.client.zrange(
                self._keys.dead, start, start + _AT_ONCE - 1, withscores=True
            )
        return [(printable(raw), int(min(max(died_at, 0), LAST_MS))) for raw, died_at in pairs]

    def events(self, batch_id: str) -> list[bytes]:
        """A dead batch's events as they stand on the wire; none if it is not dead."""
        items, dead = self._server.each(
            ("LRANGE", self._keys.batch(batch_id), 2, -1), ("ZSCORE", self._keys.dead, batch_id)
        )
        return items if isinstance(items, list) and isinstance(dead, bytes | float) else []

    def replay(self, batch_id: str) -> tuple[int, int]:
        """Put a dead batch's events back among those that wait. Returns how many, and how many wait now.

        A large batch is put back in several steps. If one of them raises, the events of the steps before wait
        again, and the others are still dead under the same id.
        """
        keys = self._keys
        names = (keys.batch(batch_id), keys.dead, keys.events, keys.stats)
        total = 0
        while True:
            reply = self._server.run(scripts.REPLAY, names, (batch_id, _STEP_EVENTS, _STEP_BYTES))
            count, left, waiting = (int(number) for number in reply)
            total += count
            if not left:
                return total, waiting

    def purge(self, batch_id: str) -> int:
        """Throw a dead batch away. Returns how many events it had."""
        names = (self._keys.batch(batch_id), self._keys.dead, self._keys.stats)
        return int(self._server.run(scripts.PURGE, names, (batch_id,)))

    def retire(self, *, before_ms: int | None, kept: int | None, limit: int) -> tuple[int, list[str]]:
        """Throw away up to ``limit`` of the oldest dead batches: those that died before ``before_ms``, and
        those beyond the newest ``kept``. None stands for no such bound.

        Returns how many events that were, and the ids of the batches.
        """
        keys = self._keys
        before = "-inf" if before_ms is None else before_ms
        args = (keys.batch(""), before, -1 if kept is None else kept, limit)
        events, ids = self._server.run(scripts.RETIRE, (keys.dead, keys.stats), args)
        return int(events), [printable(raw) for raw in ids]

    def requeue(self, batch_id: str, *, due_ms: int, died_before_ms: int) -> bool:
        """Put a dead batch in flight again as it is, with all attempts before it. False if not dead."""
        keys = self._keys
        names = (keys.batch(batch_id), keys.inflight, keys.dead, keys.stats)
        args = (batch_id, RunRecord().encode(), queued(due_ms), died_before_ms)
        return bool(self._server.run(scripts.REQUEUE, names, args))
