"""Sentinels: they say which of several servers is the master."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from microbatch.broker.errors import ConfigError
from microbatch.broker.transport.url import URL_HELP, port_of


def sentinel_client(parts: SplitResult, options: dict[str, Any], of_master: dict[str, Any]) -> redis.Redis:
    """A client of the master. The URL's options are for the master; those for TLS are also for the Sentinels.

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
    sentinels = [(urlsplit(f"//{host}").hostname, port_of(host) or 26379) for host in hosts.split(",")]
    sentinel: Sentinel = _Sentinels(sentinels, {**tls, **tls_options, **options})
    client: redis.Redis = sentinel.master_for(service, **{**of_master, **given, **tls, **options})
    return client


class _Sentinels(Sentinel):
    """Sentinels whose error says in few words why none of them named a master."""

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
                # The next connection asks this Sentinel first.
                self.sentinels = [sentinel, *(other for other in sentinels if other is not sentinel)]
                return state["ip"], state["port"]
            reasons.append(f"{host}: it is down" if state else f"{host}: never heard of it")
        raise MasterNotFoundError(f"no Sentinel names the master of {service_name!r} ({'; '.join(reasons)})")
