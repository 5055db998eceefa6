"""The events list: what waits to be cut."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from microbatch.broker.errors import BatcherFull, InDoubt, ServerError
from microbatch.broker.lua import scripts
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake import Wake, words_of
from microbatch.broker.transport.clock import TimeSource
from microbatch.broker.transport.connection import translate
from microbatch.broker.transport.request import (
    Replies,
    Request,
    Steps,
    Value,
    call,
    command,
    commands,
    only,
    transaction,
)
from microbatch.broker.transport.rpush import RpushEncoder
from microbatch.broker.transport.verb import S_co, Verbs, verb

log = logging.getLogger(__name__)

_FULL = -1


class Events(Verbs[S_co]):
    """The waiting events of one batcher.

    Args:
        server: where they are.
        keys: the batcher's.
        clock: the server's.
        max_waiting: how many may wait; None for any number.
        dedupe_window: for how long an id is known, in seconds.
        replicated: whether an event is recorded only when a replica has it.
        replica_ms: how long a replica may take to say so.

    Raises, from every way of recording:
        Unavailable: nothing was sent, so nothing was recorded.
        InDoubt: the connection broke after sending, or no replica confirmed; it may have been recorded.
        Refused: the server answered no (read-only, full, not allowed); nothing was recorded.
    """

    def __init__(
        self,
        server: S_co,
        keys: Keys,
        clock: TimeSource,
        *,
        max_waiting: int | None = None,
        dedupe_window: float = 0.0,
        replicated: bool = False,
        replica_ms: int = Timing.replica_ms,
    ) -> None:
        super().__init__(server)
        self._name = keys.name
        self._clock = clock
        self._key = keys.events
        self._seen_key = keys.seen
        self._max_waiting = max_waiting or 0
        self._window_ms = int(dedupe_window * 1000)
        self._replicated = replicated
        self._replica_ms = replica_ms
        self.is_plain = not (self._max_waiting or self._replicated)
        """Whether recording without an id asks nothing of the server: neither room nor a replica."""
        self._push = RpushEncoder(keys.events)
        self._tell_size = transaction(*words_of(keys, Wake.SIZE))

    @verb
    def record(
        self, bodies: Sequence[bytes], prefix: bytes = b"", event_id: str = "", *, full_at: int = 0
    ) -> Steps[int]:
        """Append events in one round trip, all or none; the server holds them when this returns.

        ``prefix`` is what stands before each, as `event_prefix` makes it; empty if it is there already.
        An ``event_id`` is that of the one event given; if it has been seen lately, nothing is appended.
        When a batch of ``full_at`` events has come to wait, the active scheduler is told, if it can be.
        Returns how many wait now; 0 if the id had been seen.

        Raises:
            BatcherFull: more than ``max_waiting`` would wait; nothing was recorded.
        """
        if self.is_plain and not event_id:
            waiting = yield from self._append(bodies, prefix, full_at)
        else:
            waiting = yield from self._record_guarded([prefix + body for body in bodies], event_id)
        if waiting == _FULL:
            raise BatcherFull(f"{self._max_waiting:,} events may wait (max_waiting); nothing was recorded")
        if self.is_full_by(len(bodies), waiting, full_at=full_at):
            yield from self._tell_full()
        return max(waiting, 0)

    @verb
    def append(self, bodies: Sequence[bytes], prefix: bytes, *, full_at: int) -> Request[int]:
        """Append events, as `record` does. Only where nothing is asked before (`is_plain`).

        `is_full_by`, and `tell_full` if so, have to follow. Returns how many wait now.
        """
        return self._append(bodies, prefix, full_at)

    @verb
    def tell_full(self) -> Steps[None]:
        """Tell the active scheduler of a full batch, if it can be told."""
        return self._tell_full()

    def is_full_by(self, count: int, waiting: int, *, full_at: int) -> bool:
        """Whether the last ``count`` events of those ``waiting`` have made a batch full.

        False for as many as a batch has: the word of those has gone out with them.
        """
        return waiting > 0 and count < full_at and waiting // full_at > (waiting - count) // full_at

    def _append(self, bodies: Sequence[bytes], prefix: bytes, full_at: int) -> Request[int]:
        packed = self._push.packed(bodies, prefix)
        if 0 < full_at <= len(bodies):  # so many make a batch full, whatever waits
            hint = self._tell_size
            return Request(packed + hint.packed, 1 + hint.count, self._waiting, hints=hint.count)
        return Request(packed, 1, only)

    def _waiting(self, replies: Replies) -> int:
        """How many wait. A hint may be a transaction, whose errors are in the reply of its end."""
        for reply in replies[1:]:
            for error in reply if isinstance(reply, list) else [reply]:
                if isinstance(error, Exception):
                    self._not_told(translate(error, self.server.where))
                    return int(only(replies[:1]))
        return int(only(replies[:1]))

    def _tell_full(self) -> Steps[None]:
        try:
            yield from self._tell_size
        except ServerError as error:  # the events are recorded, and must not seem to be in doubt
            self._not_told(error)

    def _not_told(self, error: Exception) -> None:
        log.warning("%s: a full batch waits for the next tick: %s", self._name, error)

    def _record_guarded(self, raws: Sequence[bytes], event_id: str) -> Steps[int]:
        keys = (self._key, self._seen_key)
        now_ms = (yield from self._clock.reading()) if event_id else 0
        args: tuple[Value, ...] = (
            self._max_waiting,
            event_id,
            now_ms,
            self._window_ms,
            int(self._replicated),
            *raws,
        )
        if not self._replicated:
            return int((yield from call(scripts.RECORD, keys, args)))
        # WAIT speaks for what its own connection wrote, so both go out on one.
        record = ("EVAL", scripts.RECORD.text, len(keys), *keys, *args)
        waiting, replicas = yield from commands(record, ("WAIT", 1, self._replica_ms))
        if waiting != _FULL and not replicas:
            raise InDoubt(
                f"no replica of {self.server.where} confirmed within {self._replica_ms} ms: "
                "the event is recorded, but whether a failover keeps it is in doubt"
            )
        return int(waiting)

    @verb
    def waiting(self) -> Request[int]:
        """How many events wait."""
        return command("LLEN", self._key).then(int)
