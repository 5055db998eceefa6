"""The results stream: committed outcomes on their way to a handler.

Consumers form one group, so each entry goes to one of them. It stays pending with that consumer until
it is handled; entries of a consumer that has gone silent are taken over by the others.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.lua import scripts
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.exchange import Value
from microbatch.broker.transport.listener import Listener
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.versioned import VERSION, known_moment

GROUP = "handlers"
HANDED_BACK = "handed-back"
"""The consumer in whose name entries wait that were handed back. It never reads."""
_LONG_IDLE_MS = 86_400_000
"""Longer than anybody's ``claim_after`` need be: entries so old are taken over at once."""
_LISTENS_WITHIN_MS = 10_000
"""A consumer that was seen within this time is still there: it waits at the server for half of it at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch came to: a result's JSON, or the failure that it died of."""

    batch_id: str
    header: Header
    attempt: int
    recorded_at_ms: int
    result: bytes | None = None
    failure: Failure | None = None

    def encode(self) -> list[Value]:
        """The fields and values of its entry on the stream."""
        body: tuple[Value, Value] = (
            ("failure", self.failure.encode())
            if self.failure is not None
            else ("result", self.result or b"null")
        )
        return [
            "v", VERSION, "batch", self.batch_id, "header", self.header.encode(),
            "attempt", self.attempt, "recorded_at", self.recorded_at_ms, *body,
        ]  # fmt: skip

    @classmethod
    def decode(cls, fields: dict[bytes, bytes]) -> Outcome:
        """Raises DecodeError when the entry is not an outcome of this version."""
        if fields.get(b"v") != b"%d" % VERSION:
            raise DecodeError(f"an entry on the results stream is not of version {VERSION}")
        try:
            return cls(
                batch_id=fields[b"batch"].decode(),
                header=Header.decode(fields[b"header"]),
                attempt=int(fields[b"attempt"]),
                recorded_at_ms=known_moment(int(fields[b"recorded_at"])),
                result=fields.get(b"result"),
                failure=Failure.decode(fields[b"failure"]) if b"failure" in fields else None,
            )
        except (KeyError, ValueError) as error:
            public = "an entry on the results stream is malformed"
            raise DecodeError(f"{public}: {error!r}", public) from None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream, as it was read."""

    id: str
    fields: dict[bytes, bytes]

    @property
    def is_hint(self) -> bool:
        """Whether it is not an outcome: its reader is to look for what was handed back, and to delete it."""
        return is_hint(self.fields)


class Results:
    """One consumer's side of the results stream. For one thread at a time, but for `keep`."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self.consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"

    def prepare(self) -> None:
        """Make the stream and its group, from the first entry on, if they are not there."""
        try:
            self._server.do("XGROUP", "CREATE", self._keys.results, GROUP, "0", "MKSTREAM")
        except Refused as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, *, count: int) -> list[Entry]:
        """New entries, without waiting for any."""
        return self._read_group(self._do, count, (), ">")

    def read_own(self, *, count: int) -> list[Entry]:
        """Entries that were delivered to this consumer and not handled."""
        return self._read_group(self._do, count, (), "0")

    def wait(self, *, count: int, wait_ms: int, listener: Listener) -> list[Entry]:
        """New entries; waits for one up to ``wait_ms`` (at most 5,000), or until the listener is woken."""
        block = ("BLOCK", min(max(wait_ms, 1), int(BLOCK_SECONDS * 1000)))
        return self._read_group(listener.ask, count, block, ">")

    def _do(self, command: Sequence[Value]) -> Any:
        return self._server.do(*command)

    def _read_group(
        self, ask: Callable[[Sequence[Value]], Any], count: int, block: Sequence[Value], start: str
    ) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, *block)
        reply = self._of_the_group(lambda: ask((*command, "STREAMS", self._keys.results, start)), ())
        return _entries(reply[0][1]) if reply else []

    def _of_the_group(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What ``ask`` returns; or, where the stream has gone with its group, the other, having made both."""

        def make_both() -> Any:
            self.prepare()
            return otherwise

        return ask_of_stream(self._server, ask, make_both)

    def take_over(self, *, idle_ms: int, count: int) -> list[Entry]:
        """Entries that any consumer, this one included, has not shown itself at work on for ``idle_ms``."""
        found: list[Entry] = []
        cursor: Any = "0-0"
        while len(found) < count:
            command = (
                "XAUTOCLAIM",
                self._keys.results,
                GROUP,
                self.consumer,
                idle_ms,
                cursor,
                "COUNT",
                count,
            )
            cursor, claimed, *_ = self._of_the_group(partial(self._server.do, *command), ("0-0", ()))
            found += _entries(claimed)
            if cursor in (b"0-0", "0-0"):
                break
        return found

    def extend_claim(self, entry_ids: Sequence[str]) -> None:
        """Show that this consumer is at work on entries."""
        self._server.run(scripts.EXTEND_CLAIM, [self._keys.results], (GROUP, self.consumer, *entry_ids))

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries whose handler has returned."""
        self._server.run(scripts.ACKNOWLEDGE, [self._keys.results, self._keys.progress], (GROUP, *entry_ids))

    def quarantine(self, entry: Entry) -> str:
        """Take an entry that is not an outcome from the stream; it is kept in the list returned.

        Empty if it has gone from the stream: somebody else has quarantined it, or deleted it.
        """
        place = self._keys.quarantine("results")
        lists = place, f"{place}:{new_id()}"
        where = self._server.run(
            scripts.QUARANTINE_ENTRY,
            [self._keys.results, *lists],
            (GROUP, entry.id, repr((entry.id, entry.fields))),
        )
        return lists[where - 1] if where else ""

    def hand_back(self) -> int:
        """Give entries that were delivered to this consumer and not handled to the others, at once.

        One of those who wait is told. Returns how many entries; they keep their places on the stream.
        """
        args = (GROUP, self.consumer, HANDED_BACK, _LONG_IDLE_MS, _LISTENS_WITHIN_MS)
        names = [self._keys.results, self._keys.progress]
        return int(self._of_the_group(lambda: self._server.run(scripts.HAND_BACK, names, args), 0))

    def forget_silent(self, *, idle_ms: int) -> int:
        """Remove other consumers that have nothing in hand and have not shown themselves for ``idle_ms``.

        Returns how many. One that was only slow is back in the group with its next read.
        """
        consumers = self._of_the_group(
            lambda: self._server.client.xinfo_consumers(self._keys.results, GROUP), ()
        )
        silent = [
            _text(consumer["name"])
            for consumer in consumers
            if consumer["pending"] == 0 and consumer["idle"] >= idle_ms
        ]
        return sum(
            self._server.run(scripts.LEAVE_GROUP, [self._keys.results], (GROUP, name))
            for name in silent
            if name != self.consumer
        )

    def leave_group(self) -> None:
        """Leave the group. Entries still pending here are handed back first."""
        keys, args = [self._keys.results], (GROUP, self.consumer)
        leave = partial(self._server.run, scripts.LEAVE_GROUP, keys, args)
        if not self._of_the_group(leave, 1) and self.hand_back():
            self._of_the_group(leave, 1)


def ask_of_stream(server: Server, ask: Callable[[], Any], if_gone: Callable[[], Any]) -> Any:
    """What ``ask`` returns; where the stream or its group is not there, what ``if_gone`` does."""
    try:
        with server.translated():
            return ask()
    except Refused as error:
        if not _is_gone(error):
            raise
        return if_gone()


def _is_gone(error: Refused) -> bool:
    """Whether a command was refused because the stream is not there, or its group."""
    return "NOGROUP" in str(error) or "no such key" in str(error)


def is_hint(fields: Mapping[bytes, bytes]) -> bool:
    """Whether an entry with these fields is not an outcome, and only wakes a consumer."""
    return b"handed_back" in fields


def _entries(reply: Any) -> list[Entry]:
    return [Entry(_text(entry_id), fields or {}) for entry_id, fields in reply]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
