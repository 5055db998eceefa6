"""How the server is reached: one factory makes every connection.

redis-py would send a command again when its reply is lost, and so do it twice. No connection made
here repeats anything: the caller decides, with the error that says whether it may have been done.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from microbatch.broker.errors import ConfigError, InDoubt, Refused, RefusedForNow, ServerError, Unavailable
from microbatch.broker.transport.url_check import (
    SCHEMES,
    URL_HELP,
    check_options,
    check_spelling,
    refuse_own,
    unknown_option,
)

CONNECT_SECONDS = 2.0
BLOCK_SECONDS = 5.0
"""The longest that any command may block at the server."""
REPLY_SECONDS = BLOCK_SECONDS + 5.0
"""How long a reply is waited for, where nothing else is said."""


_DEFAULTS = {"max_connections": 10_000}
"""Where the URL says nothing else: each thread that waits for a reply has one, and redis-py stops at 100."""


_PASSING = (
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
_PASSING_WORDS = ("UNBLOCKED", "BUSY", "MISCONF", "NOREPLICAS")


_RETRIES = ("retry_on_timeout", "retry_on_error")


class _NotSent(redis.ConnectionError):
    """A connection could not be made, so no command was sent."""


class _Pool(redis.ConnectionPool):
    def get_connection(self, *_args: Any, **_kwargs: Any) -> Any:
        return _connected(self, super().get_connection)


class _SentinelPool(SentinelConnectionPool):
    def get_connection(self, *_args: Any, **_kwargs: Any) -> Any:
        return _connected(self, super().get_connection)


class _Sentinels(Sentinel):
    """Sentinels whose error says in few words why each of them was of no help."""

    def __init__(self, hosts: list[tuple[str | None, int]], options: dict[str, Any]) -> None:
        super().__init__(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        reasons, sentinels = [], self.sentinels
        for sentinel in sentinels:
            host = "{host}:{port}".format_map(sentinel.connection_pool.connection_kwargs)
            try:
                masters: Any = sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                reasons.append(f"{host}: {error}")
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                # The next connection asks this one first.
                self.sentinels = [sentinel, *(other for other in sentinels if other is not sentinel)]
                return state["ip"], state["port"]
            reasons.append(f"{host}: it is down" if state else f"{host}: never heard of it")
        raise MasterNotFoundError(f"no Sentinel names the master of {service_name!r} ({'; '.join(reasons)})")


def _connected(pool: redis.ConnectionPool, connect: Any) -> Any:
    try:
        return connect()
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if isinstance(error, redis.AuthenticationError):
            raise
        raise _NotSent(str(error)) from error
    except BaseException:
        # A signal's handler may have raised meanwhile, and redis-py keeps what is half made.
        pool.disconnect(inuse_connections=False)
        raise


def open_client(url: str, reply_seconds: float = REPLY_SECONDS) -> redis.Redis:
    """A client for ``url``. Nothing is connected until a command is sent.

    Raises:
        ConfigError: the URL is of no kind that is known.
    """
    options: dict[str, Any] = {
        "socket_timeout": reply_seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # RQ reads replies in this shape,
        "decode_responses": False,  # and all of us as bytes
    }
    parts = split_url(url)
    check_options(parts)
    refuse_own(parts, [*options, *_RETRIES])
    try:
        if parts.scheme.endswith("+sentinel"):
            client = _sentinel_client(parts, options)
        else:
            options = {**_DEFAULTS, **redis.connection.parse_url(url), **options}
            if parts.scheme == "unix":
                del options["socket_connect_timeout"]
            client = redis.Redis(connection_pool=_Pool(**options))
        pool: Any = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # refuses an unknown option; it does not connect
    except ConfigError:
        raise
    except (ValueError, TypeError, redis.RedisError) as error:
        unknown = unknown_option(error) if isinstance(error, TypeError) else ""
        raise ConfigError(f"redis_url: {unknown or f'{error}; {URL_HELP}'}") from None
    return client


def split_url(url: str) -> SplitResult:
    """The parts of a URL. Raises ConfigError, without the password, if it is of no kind that is known."""
    check_spelling(url)
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may quote the password
        raise ConfigError(f"redis_url: it can't be read as a URL; {URL_HELP}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"redis_url: unknown scheme {parts.scheme + '://' if parts.scheme else ''!r}; {URL_HELP}"
        )
    rest = url.partition("://")[2].removeprefix(parts.netloc)
    if (parts.netloc and not parts.netloc.endswith("@")) if parts.scheme == "unix" else "@" in rest:
        # Whatever stands before the "@" may be part of a password, and would be taken for a host or a port.
        raise ConfigError(
            "redis_url: the host is not where it should be; write '/', '?', '#' and '@' in a user name or "
            f"password as %2F, %3F, %23 and %40; {URL_HELP}"
        )
    if parts.scheme in ("redis", "rediss"):
        _port(parts.netloc.rpartition("@")[2])
        if (db := parts.path.strip("/")) and not db.isdecimal():
            raise ConfigError(f"redis_url: the database is a number, as in redis://host/0; {URL_HELP}")
    return parts


def _port(host: str) -> int | None:
    """The port of ``host[:port]``. Raises ConfigError if it is none."""
    try:
        return urlsplit(f"//{host}").port
    except ValueError:
        raise ConfigError(f"redis_url: what follows the host is not a port; {URL_HELP}") from None


def safe_url(url: str) -> str:
    """The URL as it may be shown: without user, password and options."""
    parts = split_url(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _sentinel_client(parts: SplitResult, options: dict[str, Any]) -> redis.Redis:
    """A client of the master. Its URL's options are the master's; those of TLS are the Sentinels' as well."""
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigError(
            "redis_url: a Sentinel URL names its service, as redis+sentinel://host:26379/service/0 does; "
            f"{URL_HELP}"
        )
    given = redis.connection.parse_url(f"redis://{login}@?{parts.query}")
    if db:
        if not db.isdecimal():
            raise ConfigError(f"redis_url: the database is a number, as in …/service/0; {URL_HELP}")
        given["db"] = int(db)
    tls = {"ssl": parts.scheme == "rediss+sentinel"}
    tls_options = {name: value for name, value in given.items() if name.startswith("ssl_")}
    sentinels = [(urlsplit(f"//{host}").hostname, _port(host) or 26379) for host in hosts.split(",")]
    sentinel: Sentinel = _Sentinels(sentinels, {**tls, **tls_options, **options})
    client: redis.Redis = sentinel.master_for(
        service, connection_pool_class=_SentinelPool, **{**_DEFAULTS, **given, **tls, **options}
    )
    return client


def translate(error: Exception, where: str) -> ServerError:  # noqa: PLR0911 - a table
    """Microbatch's own error for one of redis-py's. ``where`` is the server's URL, fit to be shown."""
    match error:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return Refused(
                f"the server at {where} refused the user name or password; check MICROBATCH_REDIS_URL"
            )
        case _NotSent() | redis.BusyLoadingError():
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


def renew_after(error: Exception, pool: redis.ConnectionPool) -> None:
    """Close the idle connections, if an error says that those there are are of no more use.

    Where one was found dead, so are the others that a firewall has dropped with it; and where a server has
    become a replica, a new connection may lead to the one that took its place. Those in use are closed by
    those who use them.
    """
    lost = isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError)
    demoted = isinstance(error, redis.ReadOnlyError | redis.exceptions.MasterDownError)
    if lost or demoted or str(error).startswith("UNBLOCKED"):
        pool.disconnect(inuse_connections=False)


def _passes(error: Exception) -> bool:
    """Whether the server has refused for a state that it will leave again."""
    # redis-py takes the first word from those errors that have a class of their own.
    return isinstance(error, _PASSING) or str(error).partition(" ")[0] in _PASSING_WORDS
