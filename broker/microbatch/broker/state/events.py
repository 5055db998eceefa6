"""The events list: the events that wait to be cut."""

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
        server: the server that has the list.
        keys: the batcher's keys.
        clock: the server's clock.
        max_waiting: how many events may wait; None for any number.
        dedupe_window: for how long an event's id is remembered, in seconds.
        replicated: whether an event counts as recorded only when a replica has it.
        replica_ms: how long a replica may take to confirm an event, in milliseconds.
        eager: whether recording the first event wakes the scheduler, in the same round trip.

    Raises, from every way of recording:
        Unavailable: nothing was sent, so nothing was recorded.
        InDoubt: the connection broke after sending, or no replica confirmed; it may have been recorded.
        Refused: the server answered with an error (read-only, full, not allowed); nothing was recorded.
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
        eager: bool = False,
    ) -> None:
        super().__init__(server)
        self._name = keys.name
        self._clock = clock
        self._key = keys.events
        self._eager = eager
        self._record_keys = (keys.events, keys.seen, keys.wake) if eager else (keys.events, keys.seen)
        self._max_waiting = max_waiting or 0
        self._window_ms = int(dedupe_window * 1000)
        self._replicated = replicated
        self._replica_ms = replica_ms
        self.is_plain = not (self._max_waiting or self._replicated)
        """Whether recording without an id is a plain append, which checks neither room nor a replica."""
        self._push = RpushEncoder(keys.events)
        self._tell_size = transaction(*words_of(keys, Wake.SIZE))

    @verb
    def record(
        self, bodies: Sequence[bytes], prefix: bytes = b"", event_id: str = "", *, full_at: int = 0
    ) -> Steps[int]:
        """Append events in one round trip, all or none. The server holds them when this returns.

        ``prefix`` is put before each body, as `event_prefix` makes it; empty if the bodies have it already.
        ``event_id`` is the id of a single event. If it was seen within the window, nothing is appended.
        When a batch of ``full_at`` events waits, the active scheduler is told, if it can be. With eager
        cutting, it is told of the first event instead. Returns how many events wait now; 0 if the id had been
        seen.

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
        """Append events, as `record` does. Only for plain recording (`is_plain`).

        The caller must then call `is_full_by`, and `tell_full` if that is true. Returns how many wait now.
        """
        return self._append(bodies, prefix, full_at)

    @verb
    def tell_full(self) -> Steps[None]:
        """Tell the active scheduler of a full batch, if it can be told."""
        return self._tell_full()

    def is_full_by(self, count: int, waiting: int, *, full_at: int) -> bool:
        """Whether the last ``count`` of the ``waiting`` events have made a batch full.

        False if ``count`` is ``full_at`` or more: then the word was sent with the events. Always False with
        eager cutting, where the scheduler already knows that events wait.
        """
        if self._eager:
            return False
        return waiting > 0 and count < full_at and waiting // full_at > (waiting - count) // full_at

    def _append(self, bodies: Sequence[bytes], prefix: bytes, full_at: int) -> Request[int]:
        if self._eager:
            raws = [prefix + body for body in bodies]
            return call(scripts.RECORD, self._record_keys, (0, "", 0, 0, 0, *raws))
        packed = self._push.packed(bodies, prefix)
        if 0 < full_at <= len(bodies):  # these make a batch full, whatever waits
            hint = self._tell_size
            return Request(packed + hint.packed, 1 + hint.count, self._waiting, hints=hint.count)
        return Request(packed, 1, only)

    def _waiting(self, replies: Replies) -> int:
        """How many events wait. A hint may be a transaction, whose errors are in the reply to its EXEC."""
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
        keys = self._record_keys
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
        # WAIT covers only what its own connection wrote, so both are sent on one connection.
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
