"""Sentinels: they say which of several servers is the master."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from microbatch.broker.errors import ConfigError
from microbatch.broker.transport.url import URL_HELP, port_of

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What a Sentinel URL says, as redis-py's own arguments."""

    service: str
    hosts: list[tuple[str | None, int]]
    of_sentinels: dict[str, Any]
    of_master: dict[str, Any]

    @classmethod
    def read(cls, parts: SplitResult, options: dict[str, Any], of_master: dict[str, Any]) -> SentinelUrl:
        """The URL's options are for the master; those for TLS are also for the Sentinels.

        ``options`` are for both. ``of_master`` are the master's options that the URL may override.
        """
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
        return cls(
            service,
            [(urlsplit(f"//{host}").hostname, port_of(host) or 26379) for host in hosts.split(",")],
            of_sentinels={**tls, **tls_options, **options},
            of_master={**of_master, **given, **tls, **options},
        )


def sentinel_client(url: SentinelUrl) -> redis.Redis:
    """A client of the master that the Sentinels name."""
    sentinels: Sentinel = _Sentinels(url.hosts, url.of_sentinels)
    client: redis.Redis = sentinels.master_for(url.service, **url.of_master)
    return client


class Search:
    """One search for the master of a service, and why no Sentinel has named it so far."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._reasons: list[str] = []

    def failed(self, sentinel: Any, error: Exception) -> None:
        """This Sentinel did not answer."""
        self._reasons.append(f"{_host_of(sentinel)}: {error}")

    def answered(self, sentinel: Any, masters: Any, is_fit: Callable[[Any, str], bool]) -> Address | None:
        """The address of the master in this Sentinel's answer; None if it names none that is fit."""
        state = masters.get(self._service)
        if state and is_fit(state, self._service):
            return state["ip"], state["port"]
        self._reasons.append(f"{_host_of(sentinel)}: {'it is down' if state else 'never heard of it'}")
        return None

    def __str__(self) -> str:
        return f"no Sentinel names the master of {self._service!r} ({'; '.join(self._reasons)})"


def _host_of(sentinel: Any) -> str:
    return "{host}:{port}".format_map(sentinel.connection_pool.connection_kwargs)


class _Sentinels(Sentinel):
    """Sentinels whose error says in few words why none of them named a master."""

    def __init__(self, hosts: list[tuple[str | None, int]], options: dict[str, Any]) -> None:
        super().__init__(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    def discover_master(self, service_name: str) -> Address:
        search = Search(service_name)
        for sentinel in self.sentinels:
            try:
                masters: Any = sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                search.failed(sentinel, error)
                continue
            if found := search.answered(sentinel, masters, self.check_master_state):
                self.sentinels = first_of(self.sentinels, sentinel)
                return found
        raise MasterNotFoundError(str(search))


def first_of(sentinels: list[Any], first: Any) -> list[Any]:
    """The Sentinels in the order in which the next connection asks them."""
    return [first, *(other for other in sentinels if other is not first)]
