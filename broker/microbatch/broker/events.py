"""The events list: what waits to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from microbatch.broker import scripts, wire
from microbatch.broker.clock import Clock
from microbatch.broker.config import Config
from microbatch.broker.errors import BatcherFull, InDoubt
from microbatch.broker.exchange import Value
from microbatch.broker.keys import Keys
from microbatch.broker.push import Push
from microbatch.broker.sent import Sent
from microbatch.broker.server import Server

_FULL = -1
_REPLICA_MS = 1_000


class Wake(StrEnum):
    """What the active scheduler may be told."""

    SIZE = "size"
    """A full batch waits."""
    FLUSH = "flush"
    """Cut all that waits now."""
    LOOK = "look"
    """Look around: something about the scheduler itself has changed."""


class Events:
    """The waiting events of one batcher.

    Raises, from every way of recording:
        Unavailable: nothing was sent, so nothing was recorded.
        InDoubt: the connection broke after sending, or no replica confirmed; it may have been recorded.
        Refused: the server answered no (read-only, full, not allowed); nothing was recorded.
    """

    def __init__(self, server: Server, keys: Keys, config: Config, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._key = keys.events
        self._seen_key = keys.seen
        self._wake_key = keys.wake
        self._stats_key = keys.stats
        self._max_waiting = config.max_waiting or 0
        self._window_ms = int(config.dedupe_window * 1000)
        self._replicated = config.durability == "replicated"
        self.is_plain = not (self._max_waiting or self._replicated)
        """Whether recording without an id asks nothing of the server: neither room nor a replica."""
        self._push = Push(keys.events)

    def record(self, bodies: Sequence[bytes], prefix: bytes = b"", event_id: str = "") -> int:
        """Append events in one round trip, all or none; the server holds them when this returns.

        ``prefix`` is what stands before each, as `wire.event_prefix` makes it; empty if it is there already.
        An ``event_id`` is that of the one event given; if it has been seen lately, nothing is appended.
        Returns how many wait now; 0 if the id had been seen.

        Raises:
            BatcherFull: more than ``max_waiting`` would wait; nothing was recorded.
        """
        if self.is_plain and not event_id:
            return int(self.send(bodies, prefix).reply())
        raws = [prefix + body for body in bodies]
        waiting = self._record_guarded(raws, event_id)
        if waiting == _FULL:
            raise BatcherFull(f"{self._max_waiting:,} events may wait (max_waiting); nothing was recorded")
        return max(waiting, 0)

    def send(self, bodies: Sequence[bytes], prefix: bytes) -> Sent:
        """Send events on their way, all or none: the server holds them when it has replied how many wait.

        Only where nothing is asked before (`is_plain`).
        """
        return self._server.send(self._push.packed(bodies, prefix))

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

    def wake(self, word: Wake) -> None:
        """Tell the active scheduler. A hint: without it the next tick finds the same."""
        self._server.transact(("LREM", self._wake_key, 0, word), ("RPUSH", self._wake_key, word))

    def take_back(self, word: Wake) -> None:
        """Take a word back that nobody has read."""
        self._server.do("LREM", self._wake_key, 0, word)

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

    def oldest_ms(self) -> int | None:
        """When the oldest waiting event was recorded (unix ms, its producer's clock), if one waits."""
        raw = self._server.do("LINDEX", self._key, 0)
        return None if raw is None else wire.event_recorded_at_ms(raw)
