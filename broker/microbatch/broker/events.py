"""The events list: what waits to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import redis

from microbatch.broker import wire
from microbatch.broker.connection import translate
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server


class Wake(StrEnum):
    """What the active scheduler may be told."""

    SIZE = "size"
    """A full batch waits."""
    FLUSH = "flush"
    """Cut all that waits now."""
    LOOK = "look"
    """Look around: something about the scheduler itself has changed."""


class Events:
    """The waiting events of one batcher."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._key = keys.events
        self._wake_key = keys.wake
        self._stats_key = keys.stats
        self._send: Any = server.client.execute_command

    def record(self, raw: bytes) -> int:
        """Append one event; it is held by the server when this returns. Returns how many wait now.

        Raises:
            Unavailable: nothing was sent, so nothing was recorded.
            InDoubt: the connection broke after sending; the event may have been recorded.
            Refused: the server answered no (read-only, full, not allowed); nothing was recorded.
        """
        try:
            return self._send("RPUSH", self._key, raw)  # type: ignore[no-any-return]
        except (redis.RedisError, OSError) as error:
            raise translate(error, self._server.where) from error

    def record_many(self, raws: Sequence[bytes]) -> int:
        """Append events in one round trip, all or none. Returns and raises as `record` does."""
        try:
            return self._send("RPUSH", self._key, *raws)  # type: ignore[no-any-return]
        except (redis.RedisError, OSError) as error:
            raise translate(error, self._server.where) from error

    def wake(self, word: Wake) -> None:
        """Tell the active scheduler. A hint: without it the next tick finds the same."""
        self._server.many(
            ("LREM", self._wake_key, 0, word), ("RPUSH", self._wake_key, word), transaction=True
        )

    def take_back(self, word: Wake) -> None:
        """Take a word back that nobody has read."""
        self._server.do("LREM", self._wake_key, 0, word)

    def waiting(self) -> int:
        """How many events wait."""
        return int(self._server.do("LLEN", self._key))

    def position(self) -> int:
        """How many events were recorded up to now: those that wait and those that were ever cut."""
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
