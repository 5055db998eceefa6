"""Connects to the server: one factory makes every connection.

redis-py would send a command again when its reply is lost, and the server could do it twice. No connection
made here repeats anything. The caller decides, because the error says whether the command may have been done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import SplitResult

import redis
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from microbatch.broker.errors import ConfigError, InDoubt, Refused, RefusedForNow, ServerError, Unavailable
from microbatch.broker.transport.sentinel import SentinelUrl, sentinel_client
from microbatch.broker.transport.url import URL_HELP, check_options, refuse_own, split_url, unknown_option

CONNECT_SECONDS = 2.0
BLOCK_SECONDS = 5.0
"""The longest that any command may block at the server."""
REPLY_SECONDS = BLOCK_SECONDS + 5.0
"""How long to wait for a reply, by default."""


DEFAULTS = {"max_connections": 10_000}
"""Options that the URL may override. Each thread that waits for a reply has a connection, and redis-py's own
limit is 100."""


_PASSING = (
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
_PASSING_WORDS = ("UNBLOCKED", "BUSY", "MISCONF", "NOREPLICAS")


_RETRIES = ("retry", "retry_on_timeout", "retry_on_error")


class NotSent(redis.ConnectionError):
    """A connection could not be made, so no command was sent."""


class _Pool(redis.ConnectionPool):
    def get_connection(self, *_args: Any, **_kwargs: Any) -> Any:
        return _connected(self, super().get_connection)


class _SentinelPool(SentinelConnectionPool):
    def get_connection(self, *_args: Any, **_kwargs: Any) -> Any:
        return _connected(self, super().get_connection)


def _connected(pool: redis.ConnectionPool, connect: Any) -> Any:
    try:
        return connect()
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if isinstance(error, redis.AuthenticationError):
            raise
        raise NotSent(str(error)) from error
    except BaseException:
        # A signal's handler may have raised meanwhile, and redis-py keeps a half-made connection.
        pool.disconnect(inuse_connections=False)
        raise


def open_client(url: str, reply_seconds: float = REPLY_SECONDS) -> redis.Redis:
    """A client for ``url``. Nothing is connected until a command is sent.

    Raises:
        ConfigError: the URL is malformed or of an unknown kind, or has a wrong option.
    """
    parts, options = checked_options(url, reply_seconds)
    options["retry"] = Retry(NoBackoff(), 0)
    with refusing_bad_urls():
        if parts.scheme.endswith("+sentinel"):
            of_master = {"connection_pool_class": _SentinelPool, **DEFAULTS}
            client = sentinel_client(SentinelUrl.read(parts, options, of_master))
        else:
            options = {**DEFAULTS, **redis.connection.parse_url(url), **options}
            client = redis.Redis(connection_pool=_Pool(**options))
        pool: Any = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # refuses an unknown option; it does not connect
    return client


@contextmanager
def refusing_bad_urls() -> Iterator[None]:
    """Turn what redis-py says of a URL's options in this block into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError, redis.RedisError) as error:
        unknown = unknown_option(error) if isinstance(error, TypeError) else ""
        raise ConfigError(f"redis_url: {unknown or f'{error}; {URL_HELP}'}") from None


@cache
def _driver_info() -> DriverInfo:
    """What CLIENT LIST shows of a connection. redis-py would read its own version again for each."""
    driver = DriverInfo()
    with suppress(PackageNotFoundError):  # in a program that was packed without it
        driver.add_upstream_driver("microbatch", version("microbatch"))
    return driver


def checked_options(url: str, reply_seconds: float = REPLY_SECONDS) -> tuple[SplitResult, dict[str, Any]]:
    """A URL's parts, and the options that Microbatch sets. Raises ConfigError if the URL is malformed."""
    options: dict[str, Any] = {
        "socket_timeout": reply_seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "protocol": 2,  # RQ reads replies in this shape,
        "decode_responses": False,  # Microbatch and RQ both read bytes
        "driver_info": _driver_info(),
    }
    parts = split_url(url)
    check_options(parts)
    refuse_own(parts, [*options, *_RETRIES])
    if parts.scheme == "unix":
        del options["socket_connect_timeout"]
    return parts, options


def translate(error: Exception, where: str) -> ServerError:  # noqa: PLR0911 - a table
    """Microbatch's own error for one of redis-py's. ``where`` is the server's URL as it may be shown."""
    match error:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return Refused(
                f"the server at {where} refused the user name or password; check MICROBATCH_REDIS_URL"
            )
        case NotSent() | redis.BusyLoadingError():
            return Unavailable(f"no server answers at {where}: {error}")
        case redis.WatchError():
            return InDoubt(
                "a transaction was given up, or its reply was lost: it may or may not have been done"
            )
        case redis.ConnectionError() | redis.TimeoutError() | OSError():
            cause = f"the connection to {where} broke before the reply"
            return InDoubt(f"{cause} ({error}): it may or may not have been done")
        case redis.exceptions.NoPermissionError():
            return Refused(f"the server at {where} does not allow it: {error}")
        case _ if "NOAUTH" in str(error):
            return Refused(f"the server at {where} wants a password; put it into MICROBATCH_REDIS_URL")
        case _:
            kind = RefusedForNow if _passes(error) else Refused
            # An unknown command (it may be renamed) is quoted with its arguments, which may be events.
            reason = str(error).partition(", with args beginning with:")[0]
            return kind(f"the server at {where} refused: {reason}; nothing was done")


@contextmanager
def translated(pool: redis.ConnectionPool, where: str) -> Iterator[None]:
    """Turn redis-py's errors in this block into ours. ``where`` is the server's URL as it may be shown."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        renew_after(error, pool)
        raise translate(error, where) from error


def renew_after(error: Exception, pool: redis.ConnectionPool) -> None:
    """Close the idle connections if an error says that the existing ones are no longer usable.

    If one connection is dead, a firewall may have dropped the others with it. If a server has become a
    replica, a new connection may lead to the new master. Connections in use are closed by their users.
    """
    if means_lost(error):
        pool.disconnect(inuse_connections=False)


def means_lost(error: Exception) -> bool:
    """Whether an error says that the existing connections are no longer usable."""
    lost = isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError)
    demoted = isinstance(error, redis.ReadOnlyError | redis.exceptions.MasterDownError)
    return lost or demoted or str(error).startswith("UNBLOCKED")


def _passes(error: Exception) -> bool:
    """Whether the server refused because of a temporary state."""
    # redis-py removes the first word of an error that has its own class.
    return isinstance(error, _PASSING) or str(error).partition(" ")[0] in _PASSING_WORDS
