"""One server: every command goes through here, and every error comes out as one of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from hiredis import pack_command

from microbatch.broker.connection import CONNECT_SECONDS, open_client, safe_url, translate
from microbatch.broker.errors import Unsupported
from microbatch.broker.scripts import Script

Value = str | bytes | int | float
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
        """Send one command and return its reply."""
        try:
            return self.client.execute_command(*command)
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.where) from error

    def send(self, packed: bytes) -> Any:
        """Send one command that is packed already, and return its reply as the server gives it."""
        with self.translated():
            return _good(*self._exchange(packed, 1))

    def run(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[Value] = (),
        along: Along | None = None,
    ) -> Any:
        """Run a script and return its reply; it is loaded if the server does not know it."""
        commands: list[Sequence[Value]] = [("EVALSHA", script.sha, len(keys), *keys, *args)]
        if along is not None:
            commands += along.commands
        with self.translated():
            reply, *replies = self._exchange(b"".join(map(_pack, commands)), len(commands))
            if along is not None:
                along.replies = replies
            if isinstance(reply, redis.exceptions.NoScriptError):
                commands[0] = ("EVAL", script.text, len(keys), *keys, *args)
                (reply,) = self._exchange(_pack(commands[0]), 1)
            return _good(reply)

    def watch(self, pipe: Any, key: str, *commands: Sequence[Value]) -> list[Any]:
        """Have a transaction fail if ``key`` changes from now on, and ask something meanwhile, in one round trip.

        As ``pipe.watch()`` and then the commands, which would be a round trip each. ``pipe`` is a new one; it
        gives the connection back that it gets here.
        """
        pipe.connection, pipe.watching = self.client.connection_pool.get_connection(), True
        packed = b"".join(map(_pack, [("WATCH", key), *commands]))
        return [_good(reply) for reply in _replies(pipe.connection, packed, 1 + len(commands))][1:]

    def _exchange(self, packed: bytes, count: int) -> list[Any]:
        """One round trip with so many commands. Where one was refused, the error stands in its reply's place.

        Without what redis-py does for commands of all kinds: this is the path of every event and batch.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            return _replies(connection, packed, count)
        finally:
            pool.release(connection)

    def transact(self, *commands: Sequence[Value]) -> list[Any]:
        """As `many` in a transaction, with the replies as the server gives them: for what is done often."""
        packed = b"".join(map(_pack, [("MULTI",), *commands, ("EXEC",)]))
        with self.translated():
            replies = self._exchange(packed, len(commands) + 2)
            queued = [
                _good(reply) for reply in replies
            ]  # the first error says why, EXEC's only that there was one
            return [_good(reply) for reply in queued[-1]]

    def many(self, *commands: Sequence[Value], transaction: bool = False) -> list[Any]:
        """Send commands in one round trip, as one MULTI/EXEC if ``transaction``; return their replies."""
        with self.translated(), self.client.pipeline(transaction=transaction) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return pipe.execute()

    def each(self, *commands: Sequence[Value]) -> list[Any]:
        """As `many`, but where a command was refused, the error stands in its reply's place."""
        with self.translated(), self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return pipe.execute(raise_on_error=False)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """For code that uses the client itself: redis-py's errors leave the block as ours."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise translate(error, self.where) from error

    def check_version(self) -> None:
        """Raises Unsupported unless this is Redis ≥ 7.0 or Valkey ≥ 7.2."""
        info = self._first_reply()
        name, oldest = ("Valkey", OLDEST_VALKEY) if "valkey_version" in info else ("Redis", OLDEST_REDIS)
        version = str(info.get("valkey_version") or info.get("redis_version") or "0")
        if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < oldest:
            raise Unsupported(
                f"the server at {self.where} is {name} {version}; Microbatch needs Redis 7.0 or Valkey 7.2"
            )

    def _first_reply(self) -> Any:
        """What the server says of itself, at once or not at all: this is where a wrong address shows."""
        if self._url is None:
            return self.do("INFO", "server")
        client = open_client(self._url, reply_seconds=CONNECT_SECONDS)
        try:
            with self.translated():
                return client.info("server")
        finally:
            client.connection_pool.disconnect()

    def close(self) -> None:
        """Close the connections. A later command opens new ones."""
        self.client.connection_pool.disconnect()


def _pack(command: Sequence[Value]) -> bytes:
    packed: bytes = pack_command(tuple(command))  # type: ignore[arg-type]
    return packed


def _replies(connection: Any, packed: bytes, count: int) -> list[Any]:
    try:
        connection.send_packed_command([packed])
        return [_reply(connection) for _ in range(count)]
    except BaseException:
        connection.disconnect()  # a reply that was not read would be taken for another's
        raise


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _good(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
