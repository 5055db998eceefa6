"""The results stream: committed outcomes on their way to a handler.

Consumers form one group, so each entry goes to one of them. It stays pending with that consumer until it is
handled. If a consumer goes silent, the others take over its entries.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from microbatch.broker.errors import Refused
from microbatch.broker.lua import scripts
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.request import Request, Steps, Value, call, command, pairs
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.identity import new_id

T = TypeVar("T")

GROUP = "handlers"
HANDED_BACK = "handed-back"
"""The name of the consumer that holds entries which were handed back. It never reads."""
_LONG_IDLE_MS = 86_400_000
"""Longer than any ``claim_after`` needs to be. Entries that seem idle for it are taken over at once."""
_LISTENS_WITHIN_MS = 10_000
"""A consumer that was seen within this time is still there: it waits at the server for half of it at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream, as it was read."""

    id: str
    fields: dict[bytes, bytes]

    @property
    def is_hint(self) -> bool:
        """Whether it is not an outcome. Its reader must look for what was handed back, and delete it."""
        return is_hint(self.fields)


class Results(Verbs[S_co]):
    """One consumer's side of the results stream. For one thread at a time, except `extend_claim`."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys
        self.consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"

    @verb
    def prepare(self) -> Steps[None]:
        """Make the stream and its group, which starts at the first entry, if they do not exist."""
        return _make_group(self._keys.results)

    @verb
    def read(self, *, count: int) -> Steps[list[Entry]]:
        """New entries, without waiting for any."""
        return self._read_group(count, (), ">")

    @verb
    def read_own(self, *, count: int) -> Steps[list[Entry]]:
        """Entries that were delivered to this consumer and have not been handled."""
        return self._read_group(count, (), "0")

    @verb
    def wait(self, *, count: int, wait_ms: int) -> Steps[list[Entry]]:
        """New entries; waits for one up to ``wait_ms`` (at most 5,000)."""
        return self._read_group(count, ("BLOCK", min(max(wait_ms, 1), int(BLOCK_SECONDS * 1000))), ">")

    @verb
    def take_over(self, *, idle_ms: int, count: int) -> Steps[list[Entry]]:
        """Take over entries whose consumer, this one included, has shown no work on them for ``idle_ms``."""
        found: list[Entry] = []
        cursor = b"0-0"
        claim = ("XAUTOCLAIM", self._keys.results, GROUP, self.consumer, idle_ms)
        while len(found) < count:
            asked: Request[Any] = command(*claim, cursor, "COUNT", count)
            cursor, claimed, *_ = yield from self._of_the_group(asked, (b"0-0", ()))
            found += _entries(claimed)
            if cursor == b"0-0":
                break
        return found

    @verb
    def extend_claim(self, entry_ids: Sequence[str]) -> Request[object]:
        """Show that this consumer is still working on entries."""
        return call(scripts.EXTEND_CLAIM, [self._keys.results], (GROUP, self.consumer, *entry_ids))

    @verb
    def acknowledge(self, entry_ids: Sequence[str]) -> Request[object]:
        """Acknowledge and delete entries whose handler has returned."""
        return call(scripts.ACKNOWLEDGE, [self._keys.results, self._keys.progress], (GROUP, *entry_ids))

    @verb
    def quarantine(self, entry: Entry) -> Request[str]:
        """Quarantine an entry that is not an outcome. Returns the list that it is kept in.

        Returns an empty text if it is gone from the stream: another consumer quarantined or deleted it.
        """
        place = self._keys.quarantine("results")
        lists = place, f"{place}:{new_id()}"
        args = (GROUP, entry.id, repr((entry.id, entry.fields)))
        quarantine = call(scripts.QUARANTINE_ENTRY, [self._keys.results, *lists], args)
        return quarantine.then(lambda where: lists[where - 1] if where else "")

    @verb
    def hand_back(self) -> Steps[int]:
        """Hand entries that were delivered to this consumer and not handled back to the others, at once.

        One waiting consumer is told. Returns how many entries; they keep their places on the stream.
        """
        return self._hand_back()

    @verb
    def forget_silent(self, *, idle_ms: int) -> Steps[int]:
        """Remove other consumers that have no pending entry and have not shown themselves for ``idle_ms``.

        Returns how many. A consumer that was only slow joins the group again with its next read.
        """
        consumers = yield from self._of_the_group(consumers_of(self._keys.results), [])
        silent = [
            consumer.name
            for consumer in consumers
            if consumer.pending == 0 and consumer.idle_ms >= idle_ms and consumer.name != self.consumer
        ]
        gone = 0
        for name in silent:
            gone += yield from call(scripts.LEAVE_GROUP, [self._keys.results], (GROUP, name))
        return gone

    @verb
    def leave_group(self) -> Steps[None]:
        """Leave the group. Entries that are still pending with this consumer are handed back first."""
        leave = call(scripts.LEAVE_GROUP, [self._keys.results], (GROUP, self.consumer))
        if not (yield from self._of_the_group(leave, 1)) and (yield from self._hand_back()):
            yield from self._of_the_group(leave, 1)

    def _read_group(self, count: int, block: Sequence[Value], start: str) -> Steps[list[Entry]]:
        words = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, *block)
        read: Request[Any] = command(*words, "STREAMS", self._keys.results, start)
        reply = yield from self._of_the_group(read, ())
        return _entries(reply[0][1]) if reply else []

    def _hand_back(self) -> Steps[int]:
        args = (GROUP, self.consumer, HANDED_BACK, _LONG_IDLE_MS, _LISTENS_WITHIN_MS)
        names = [self._keys.results, self._keys.progress]
        return int((yield from self._of_the_group(call(scripts.HAND_BACK, names, args), 0)))

    def _of_the_group(self, asked: Request[T], otherwise: T) -> Steps[T]:
        """The answer to ``asked``. If the stream or its group is gone, make both and return ``otherwise``."""
        try:
            return (yield from asked)
        except Refused as error:
            if not _is_gone(error):
                raise
        yield from _make_group(self._keys.results)
        return otherwise


@dataclass(frozen=True, slots=True)
class Seen:
    """A consumer of the group, as the server has seen it."""

    name: str
    pending: int
    """How many entries were delivered to it and have not been handled."""
    idle_ms: int
    """For how long it has not shown itself."""


def consumers_of(stream: str) -> Request[list[Seen]]:
    """The consumers of a results stream's group."""
    return command("XINFO", "CONSUMERS", stream, GROUP).then(_consumers)


def unless_gone(asked: Request[T], otherwise: T) -> Steps[T]:
    """The answer to ``asked``; ``otherwise`` if the stream or its group does not exist."""
    try:
        return (yield from asked)
    except Refused as error:
        if not _is_gone(error):
            raise
        return otherwise


def _make_group(stream: str) -> Steps[None]:
    try:
        yield from command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    except Refused as error:
        if "BUSYGROUP" not in str(error):
            raise


def _is_gone(error: Refused) -> bool:
    """Whether a command was refused because the stream or its group does not exist."""
    return "NOGROUP" in str(error) or "no such key" in str(error)


def is_hint(fields: Mapping[bytes, bytes]) -> bool:
    """Whether an entry with these fields is not an outcome, and only wakes a consumer."""
    return b"handed_back" in fields


def _entries(reply: Any) -> list[Entry]:
    # An entry that has been deleted has no fields.
    return [Entry(entry_id.decode(), pairs(fields or ())) for entry_id, fields in reply]


def _consumers(reply: Any) -> list[Seen]:
    found = map(pairs, reply)
    return [Seen(each[b"name"].decode(), each[b"pending"], each[b"idle"]) for each in found]
