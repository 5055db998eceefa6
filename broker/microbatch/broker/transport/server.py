"""One server: every request goes through here, and every error becomes one of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import redis

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.transport.connection import (
    CONNECT_SECONDS,
    open_client,
    renew_after,
    translate,
    translated,
)
from microbatch.broker.transport.pending_reply import PendingReply
from microbatch.broker.transport.request import Request, Steps, Value, command, info
from microbatch.broker.transport.round_trip import round_trip
from microbatch.broker.transport.transaction import FencedTransaction, fenced
from microbatch.broker.transport.url import safe_url
from microbatch.broker.transport.version import refuse_unsupported

T = TypeVar("T")


def perform_by(perform: Callable[[Request[Any]], Any], asked: Request[T] | Steps[T]) -> T:
    """Let ``perform`` do each request in turn, and return the answer."""
    if isinstance(asked, Request):
        first: T = perform(asked)
        return first
    try:
        request = next(asked)
        while True:
            try:
                answer = perform(request)
            except MicrobatchError as error:
                request = asked.throw(error)
            else:
                request = asked.send(answer)
    except StopIteration as end:
        last: T = end.value
        return last


class Server:
    """A pool of connections to one server. Safe to share between threads, and after a fork.

    No request is ever sent twice. Raises, from every method:
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

    def perform(self, asked: Request[T] | Steps[T]) -> T:
        """Perform a request, or several one after another, and return the answer."""
        return perform_by(self._perform, asked)

    def _perform(self, request: Request[T]) -> T:
        # Not by redis-py's client. If a signal's handler raises between sending and reading, that returns the
        # connection to the pool, and its next user reads this reply as its own.
        pool = self.client.connection_pool
        try:
            connection = pool.get_connection()
            try:
                return round_trip(connection, request)
            finally:
                pool.release(connection)
        except (redis.RedisError, OSError) as error:
            renew_after(error, pool)
            raise translate(error, self.where) from error

    def do(self, *words: Value) -> Any:
        """Send one command, and return its reply as the server sends it."""
        return self._perform(command(*words))

    def send(self, request: Request[T]) -> PendingReply[T]:
        """Send a request. The caller must read its answer from the `PendingReply`."""
        return PendingReply(self.client.connection_pool, self.where, request)

    def fenced(self, watching: Any = None) -> AbstractContextManager[FencedTransaction]:
        """A transaction for the block of a ``with``, which is done only if a key has not changed.

        If the caller has already looked at the key, ``watching`` is the connection that watches it since.
        """
        return fenced(self.client.connection_pool, self.where, watching)

    def translated(self) -> AbstractContextManager[None]:
        """Turn redis-py's errors in this block into ours, for code that uses the client itself."""
        return translated(self.client.connection_pool, self.where)

    def check_version(self) -> None:
        """Raises Unsupported unless this is Redis ≥ 7.0 or Valkey ≥ 7.2, and not in cluster mode."""
        refuse_unsupported(self._first_reply(), self.where)

    def _first_reply(self) -> dict[str, str]:
        """The server's INFO, with a short timeout: a wrong address shows here first."""
        if self._url is None:
            return self.perform(info("server"))
        first = Server(open_client(self._url, reply_seconds=CONNECT_SECONDS), self.where)
        try:
            return first.perform(info("server"))
        finally:
            first.close()

    def close(self, *, in_use: bool = True) -> None:
        """Close the connections; with ``in_use``, also those that other threads are using.

        A later request opens new ones.
        """
        self.client.connection_pool.disconnect(inuse_connections=in_use)
