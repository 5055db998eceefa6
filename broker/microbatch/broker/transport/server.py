"""One server: every command goes through here, and every error becomes one of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from microbatch.broker.errors import Unsupported
from microbatch.broker.lua.scripts import Script
from microbatch.broker.transport.connection import (
    CONNECT_SECONDS,
    open_client,
    renew_after,
    safe_url,
    translate,
)
from microbatch.broker.transport.exchange import Value, exchange, good
from microbatch.broker.transport.pending_reply import PendingReply
from microbatch.broker.transport.transaction import FencedTransaction

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


class Along:
    """Commands that go out in one round trip with another, and what each was answered.

    A command that is refused has its error for a reply, and takes nothing from the others.
    """

    def __init__(self, *commands: Sequence[Value]) -> None:
        self.commands = commands
        self.replies: list[Any] = []
        """One for each command; none if the connection broke first."""


class Server:
    """A pool of connections to one server. Safe to share between threads, and after a fork.

    No command is ever sent twice. Raises, from every method:
        Unavailable: the server could not be reached; nothing was sent.
        InDoubt: the connection broke before the reply.
        Refused: the server answered with an error.
    """

    def __init__(self, client: redis.Redis, where: str = "the given client", url: str | None = None) -> None:
        self.client = client
        self.where = where
        self._url = url

    @classmethod
    def at(cls, url: str) -> Server:
        """The server at ``url``. Nothing is sent yet. Raises ConfigError if the URL is malformed."""
        return cls(open_client(url), safe_url(url), url)

    def do(self, *command: Value) -> Any:
        """Send one command and return its reply, as redis-py reads it."""
        return self.many(command)[0]

    def send(self, packed: bytes, hints: int = 0) -> PendingReply:
        """Send a command that is packed already, and so many hints. Its reply has to be asked for."""
        return PendingReply(self.client.connection_pool, self.where, packed, hints)

    def run(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[Value] = (),
        *,
        first: Sequence[Value] = (),
        along: Along | None = None,
    ) -> Any:
        """Run a script and return its reply; it is loaded if the server does not know it.

        In the same round trip ``first``, a command, is done before it, and what goes ``along`` after it.
        """
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        with self.translated(), self._connection() as connection:
            if (
                first
            ):  # which was done for nothing where the script is not known: so the server is told the text
                done, reply = exchange(connection, [first, ("EVAL", script.text, *command[2:])])
                good([done])
            elif along is None:
                (reply,) = exchange(connection, [command])
            else:
                reply, *along.replies = exchange(connection, [command, *along.commands])
            if isinstance(reply, redis.exceptions.NoScriptError):
                (reply,) = exchange(connection, [("EVAL", script.text, *command[2:])])
            return good([reply])[0]

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        pool = self.client.connection_pool
        with self.translated():
            connection = pool.get_connection()
        try:
            yield connection
        finally:
            pool.release(connection)

    def transact(self, *commands: Sequence[Value]) -> Sequence[Any]:
        """As `many` in a transaction, with the replies as the server gives them: for what is done often."""
        with self.translated(), self._connection() as connection:
            replies = good(exchange(connection, [("MULTI",), *commands, ("EXEC",)]))
            return good(replies[-1])

    @contextmanager
    def fenced(self, watching: Any = None) -> Iterator[FencedTransaction]:
        """A transaction that is done only while a key stays as it was, for the block of a ``with``.

        A caller that has looked at the key already lends the connection that is ``watching`` it since.
        """
        with self.translated(), FencedTransaction(self.client, watching) as transaction:
            yield transaction

    def many(self, *commands: Sequence[Value], transaction: bool = False) -> list[Any]:
        """Send commands in one round trip, as one MULTI/EXEC if ``transaction``; return their replies."""
        if transaction:
            return self.as_read(commands, self.transact(*commands))
        with self.translated():
            return list(good(self.each(*commands)))

    def each(self, *commands: Sequence[Value]) -> list[Any]:
        """As `many`, but where a command was refused, the error stands in its reply's place."""
        with self._connection() as connection:
            return self.each_on(connection, *commands)

    def each_on(self, connection: Any, *commands: Sequence[Value]) -> list[Any]:
        """As `each`, on a connection of one's own. It is closed if the reply is not read."""
        # Not by redis-py's client: when a signal's handler raises between sending and reading, that gives the
        # connection back, and the next who uses it gets this reply for its own.
        with self.translated():
            return self.as_read(commands, exchange(connection, commands))

    def as_read(self, commands: Sequence[Sequence[Value]], replies: Sequence[Any]) -> list[Any]:
        """Replies as the server gave them, as redis-py reads them; an error stays as it is."""
        readers = self.client.response_callbacks
        return [
            reply if isinstance(reply, Exception) else readers.get(str(command[0]), _as_it_is)(reply)
            for command, reply in zip(commands, replies, strict=True)
        ]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """For code that uses the client itself: redis-py's errors leave the block as ours."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            renew_after(error, self.client.connection_pool)
            raise translate(error, self.where) from error

    def check_version(self) -> None:
        """Raises Unsupported unless this is Redis ≥ 7.0 or Valkey ≥ 7.2, and not in cluster mode."""
        info = _first_reply(self, self._url)
        name, oldest = ("Valkey", OLDEST_VALKEY) if "valkey_version" in info else ("Redis", OLDEST_REDIS)
        version = str(info.get("valkey_version") or info.get("redis_version") or "0")
        if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < oldest:
            raise Unsupported(
                f"the server at {self.where} is {name} {version}; Microbatch needs Redis 7.0 or Valkey 7.2"
            )
        if info.get("redis_mode", info.get("server_mode")) == "cluster":
            raise Unsupported(
                f"the server at {self.where} is in cluster mode, which RQ's keys can't live on; use a server "
                "that stands alone, or Sentinel"
            )

    def close(self, *, in_use: bool = True) -> None:
        """Close the connections, those in use by other threads included. A later command opens new ones."""
        self.client.connection_pool.disconnect(inuse_connections=in_use)


def _as_it_is(reply: Any) -> Any:
    return reply


def _first_reply(server: Server, url: str | None) -> Any:
    """What a server says of itself, at once or not at all: this is where a wrong address shows."""
    if url is None:
        return server.do("INFO", "server")
    client = open_client(url, reply_seconds=CONNECT_SECONDS)
    try:
        with server.translated():
            return client.info("server")
    finally:
        client.connection_pool.disconnect()
