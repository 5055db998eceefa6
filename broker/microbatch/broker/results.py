"""The results stream: committed outcomes on their way to a handler.

Consumers form one group, so each entry goes to one of them. It stays pending with that consumer until
it is handled; entries of a consumer that has gone silent are taken over by the others.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from microbatch.broker import scripts
from microbatch.broker.connection import BLOCK_SECONDS
from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.exchange import Value, good
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server
from microbatch.broker.wire import VERSION, Failure, Header, known_moment, new_id

GROUP = "handlers"


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
            raise DecodeError(f"an entry on the results stream is malformed: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream, as it was read."""

    id: str
    fields: dict[bytes, bytes]


class Results:
    """One consumer's side of the results stream."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self.consumer = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._reader: Any = None
        self._reader_id = 0
        self._idle = threading.Event()
        self._idle.set()

    def prepare(self) -> None:
        """Make the stream and its group, from the first entry on, if they are not there."""
        try:
            self._server.do("XGROUP", "CREATE", self._keys.results, GROUP, "0", "MKSTREAM")
        except Refused as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, *, count: int) -> list[Entry]:
        """New entries, without waiting for any."""
        return self._read_group(self._server.do, count, (), ">")

    def read_own(self, *, count: int) -> list[Entry]:
        """Entries that were delivered to this consumer and not handled."""
        return self._read_group(self._server.do, count, (), "0")

    def wait(self, *, count: int, wait_ms: int, unless: Callable[[], bool]) -> list[Entry]:
        """New entries; waits for the first up to ``wait_ms`` (at most 5,000), or until `interrupt` is called.

        Does not wait if ``unless`` is true: whoever makes it true calls `interrupt` after that.
        """
        self._idle.clear()
        try:
            if unless():
                return []
            if self._reader is None:
                with self._server.translated():
                    self._reader = self._server.client.connection_pool.get_connection()
                self._reader_id = self._ask_reader("CLIENT", "ID")
            block = ("BLOCK", min(max(wait_ms, 1), int(BLOCK_SECONDS * 1000)))
            return self._read_group(self._ask_reader, count, block, ">")
        except BaseException:  # an interrupt too: it closes the connection, and the next has another id
            reader, self._reader = self._reader, None
            if reader is not None:
                self._server.client.connection_pool.release(reader)
            raise
        finally:
            self._idle.set()

    def interrupt(self) -> None:
        """End a `wait` that goes on in another thread. Raises ServerError if the server can't be asked."""
        while not self._idle.wait(0.01):
            self._server.do("CLIENT", "UNBLOCK", self._reader_id)

    def _ask_reader(self, *command: Value) -> Any:
        with self._server.translated():
            return good(self._server.each_on(self._reader, command))[0]

    def _read_group(
        self, ask: Callable[..., Any], count: int, block: Sequence[Value], start: str
    ) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, *block)
        reply = self._of_the_group(lambda: ask(*command, "STREAMS", self._keys.results, start), ())
        return _entries(reply[0][1]) if reply else []

    def _of_the_group(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """What ``ask`` returns; or, where the stream has gone with its group, the other, having made both."""
        try:
            with self._server.translated():
                return ask()
        except Refused as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
            self.prepare()
            return otherwise

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

    def keep(self, entry_ids: Sequence[str]) -> None:
        """Show that this consumer is at work on entries."""
        self._server.run(scripts.KEEP, [self._keys.results], (GROUP, self.consumer, *entry_ids))

    def handled(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries whose handler has returned."""
        self._server.run(scripts.HANDLED, [self._keys.results, self._keys.drain], (GROUP, *entry_ids))

    def put_aside(self, entry: Entry) -> str:
        """Take an entry that is no outcome from the stream; it is kept in the list returned.

        Empty if it has gone from the stream: somebody else has put it aside, or deleted it.
        """
        aside = self._keys.aside("results")
        lists = aside, f"{aside}:{new_id()}"
        where = self._server.run(
            scripts.SHELVE,
            [self._keys.results, *lists],
            (GROUP, entry.id, repr((entry.id, entry.fields))),
        )
        return lists[where - 1] if where else ""

    def last_id(self) -> str:
        """The id of the newest entry ever added."""
        info = self._of_the_group(lambda: self._server.client.xinfo_stream(self._keys.results), {})
        return _text(info.get("last-generated-id", "0-0"))

    def unhandled(self) -> int:
        """How many entries no handler has finished with."""
        return int(self._server.do("XLEN", self._keys.results))

    def unhandled_up_to(self, entry_id: str) -> bool:
        """Whether an entry up to this id is still on the stream."""
        return bool(self._server.do("XRANGE", self._keys.results, "-", entry_id, "COUNT", 1))

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
            self._server.run(scripts.LEAVE, [self._keys.results], (GROUP, name))
            for name in silent
            if name != self.consumer
        )

    def leave(self) -> None:
        """Leave the group. Entries still pending here are taken over by the others in time."""
        self._of_the_group(
            lambda: self._server.run(scripts.LEAVE, [self._keys.results], (GROUP, self.consumer)), 0
        )


def _entries(reply: Any) -> list[Entry]:
    return [Entry(_text(entry_id), fields or {}) for entry_id, fields in reply]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
