"""The events list: what waits to be cut."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum

from microbatch.broker.errors import BatcherFull, InDoubt, ServerError
from microbatch.broker.lua import scripts
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.clock import Clock
from microbatch.broker.transport.exchange import Value, pack
from microbatch.broker.transport.pending_reply import PendingReply
from microbatch.broker.transport.rpush import RpushEncoder
from microbatch.broker.transport.server import Server

log = logging.getLogger(__name__)

_FULL = -1
_REPLICA_MS = 1_000


class Wake(StrEnum):
    """What the active scheduler may be told."""

    SIZE = "size"
    """A full batch waits."""
    FLUSH = "flush"
    """Cut all that waits now."""
    RECONCILE = "reconcile"
    """Reconcile now: something about the scheduler itself, or about what it looks at, has changed."""
    ROOM = "room"
    """A batch that had a job has ended, where the scheduler waits for that."""


_MOST_WORDS = 4 * len(Wake)  # several who say one word at once may leave it twice


class Events:
    """The waiting events of one batcher.

    Args:
        server: where they are.
        keys: the batcher's.
        clock: the server's.
        max_waiting: how many may wait; None for any number.
        dedupe_window: for how long an id is known, in seconds.
        replicated: whether an event is recorded only when a replica has it.

    Raises, from every way of recording:
        Unavailable: nothing was sent, so nothing was recorded.
        InDoubt: the connection broke after sending, or no replica confirmed; it may have been recorded.
        Refused: the server answered no (read-only, full, not allowed); nothing was recorded.
    """

    def __init__(
        self,
        server: Server,
        keys: Keys,
        clock: Clock,
        *,
        max_waiting: int | None = None,
        dedupe_window: float = 0.0,
        replicated: bool = False,
    ) -> None:
        self._server = server
        self._name = keys.name
        self._clock = clock
        self._key = keys.events
        self._seen_key = keys.seen
        self._wake_key = keys.wake
        self._stats_key = keys.stats
        self._max_waiting = max_waiting or 0
        self._window_ms = int(dedupe_window * 1000)
        self._replicated = replicated
        self.is_plain = not (self._max_waiting or self._replicated)
        """Whether recording without an id asks nothing of the server: neither room nor a replica."""
        self._push = RpushEncoder(keys.events)
        size = self._words(Wake.SIZE)
        self._tell_size, self._hints = pack(("MULTI",), *size, ("EXEC",)), len(size) + 2

    def record(
        self, bodies: Sequence[bytes], prefix: bytes = b"", event_id: str = "", *, full_at: int = 0
    ) -> int:
        """Append events in one round trip, all or none; the server holds them when this returns.

        ``prefix`` is what stands before each, as `event_prefix` makes it; empty if it is there already.
        An ``event_id`` is that of the one event given; if it has been seen lately, nothing is appended.
        When a batch of ``full_at`` events has come to wait, the active scheduler is told, if it can be.
        Returns how many wait now; 0 if the id had been seen.

        Raises:
            BatcherFull: more than ``max_waiting`` would wait; nothing was recorded.
        """
        if self.is_plain and not event_id:
            return self.recorded(self.send(bodies, prefix, full_at=full_at), len(bodies), full_at=full_at)
        waiting = self._record_guarded([prefix + body for body in bodies], event_id)
        if waiting == _FULL:
            raise BatcherFull(f"{self._max_waiting:,} events may wait (max_waiting); nothing was recorded")
        if full_at:
            self._tell_if_full(waiting, len(bodies), full_at)
        return max(waiting, 0)

    def send(self, bodies: Sequence[bytes], prefix: bytes, *, full_at: int) -> PendingReply:
        """Send events on their way, as `record` does; the server holds them when `recorded` has returned.

        Only where nothing is asked before (`is_plain`).
        """
        packed = self._push.packed(bodies, prefix)
        if 0 < full_at <= len(bodies):  # so many make a batch full, whatever waits
            return self._server.send(packed + self._tell_size, self._hints)
        return self._server.send(packed)

    def recorded(self, sent: PendingReply, count: int, *, full_at: int) -> int:
        """Wait until the server holds the ``count`` events that were sent. Returns how many wait now."""
        waiting = int(sent.reply())
        if sent.hint_lost is not None:
            self._not_told(sent.hint_lost)
        elif count < full_at:
            self._tell_if_full(waiting, count, full_at)
        return waiting

    def _tell_if_full(self, waiting: int, count: int, full_at: int) -> None:
        if waiting > 0 and waiting // full_at > (waiting - count) // full_at:
            try:
                self.wake(Wake.SIZE)
            except ServerError as error:  # the events are recorded, and must not seem to be in doubt
                self._not_told(error)

    def _not_told(self, error: Exception) -> None:
        log.warning("%s: a full batch waits for the next tick: %s", self._name, error)

    def _record_guarded(self, raws: Sequence[bytes], event_id: str) -> int:
        keys = (self._key, self._seen_key)
        args: tuple[Value, ...] = (
            self._max_waiting,
            event_id,
            self._clock.now_ms() if event_id else 0,
            self._window_ms,
            int(self._replicated),
            *raws,
        )
        if not self._replicated:
            return int(self._server.run(scripts.RECORD, keys, args))
        # WAIT speaks for what its own connection wrote, so both go out on one.
        waiting, replicas = self._server.many(
            ("EVAL", scripts.RECORD.text, len(keys), *keys, *args), ("WAIT", 1, _REPLICA_MS)
        )
        if waiting != _FULL and not replicas:
            raise InDoubt(
                f"no replica of {self._server.where} confirmed within {_REPLICA_MS} ms: "
                "the event is recorded, but whether a failover keeps it is in doubt"
            )
        return int(waiting)

    def thin_out(self) -> int:
        """Throw the words to the scheduler away if there are too many. Returns how many they were.

        Each of ours is there once. Each of the others would have a batch cut, as small as it may be.
        """
        words = int(self._server.do("LLEN", self._wake_key))
        if words <= _MOST_WORDS:
            return 0
        self._server.do("UNLINK", self._wake_key)
        return words

    def wake(self, word: Wake) -> None:
        """Tell the active scheduler. A hint: without it the next tick finds the same."""
        self._server.transact(*self._words(word))

    def _words(self, word: Wake) -> tuple[Sequence[Value], ...]:
        return ("LREM", self._wake_key, 0, word), ("RPUSH", self._wake_key, word)

    def take_back(self, *words: Wake) -> None:
        """Take words back that nobody has read."""
        self._server.many(*(("LREM", self._wake_key, 0, word) for word in words))

    def waiting(self) -> int:
        """How many events wait."""
        return int(self._server.do("LLEN", self._key))

    def position(self) -> int:
        """Where the list ends now, counted from its first event ever: what was cut and what waits."""
        waiting, cut = self._server.many(
            ("LLEN", self._key), ("HGET", self._stats_key, "cut_events"), transaction=True
        )
        return int(waiting) + int(cut or 0)

    def cut_up_to(self) -> tuple[int, int]:
        """How many events were ever cut, and how many wait."""
        cut, waiting = self._server.many(
            ("HGET", self._stats_key, "cut_events"), ("LLEN", self._key), transaction=True
        )
        return int(cut or 0), int(waiting)
