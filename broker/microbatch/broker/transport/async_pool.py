"""Connects to the server for asyncio: as `connection` does for threads, and nothing is repeated."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from microbatch.broker.transport.connection import DEFAULTS, REPLY_SECONDS, checked_options, refusing_bad_urls
from microbatch.broker.transport.sentinel import Address, Search, SentinelUrl, first_of


class Pool(redis.asyncio.ConnectionPool):
    """A pool of connections to one server."""

    async def drop_idle(self) -> None:
        """Close the idle connections. It waits for nothing, so that nobody takes one that is being closed."""
        for connection in tuple(self._available_connections):
            await connection.disconnect(nowait=True)


class _SentinelPool(SentinelConnectionPool, Pool):
    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.connection_pool.disconnect(inuse_connections)


class _Sentinels(Sentinel):
    """As for threads: the error says in few words why none of them named a master."""

    async def discover_master(self, service_name: str) -> Address:
        search = Search(service_name)
        for sentinel in self.sentinels:
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                search.failed(sentinel, error)
                continue
            if found := search.answered(sentinel, masters, self.check_master_state):
                self.sentinels = first_of(self.sentinels, sentinel)
                return found
        raise MasterNotFoundError(str(search))


def open_pool(url: str, reply_seconds: float = REPLY_SECONDS) -> Pool:
    """A pool for ``url``. Nothing is connected until a connection is taken. Raises ConfigError."""
    parts, options = checked_options(url, reply_seconds)
    options["retry"] = Retry(NoBackoff(), 0)
    with refusing_bad_urls():
        if parts.scheme.endswith("+sentinel"):
            found = SentinelUrl.read(parts, options, DEFAULTS)
            sentinels: Any = _Sentinels(found.hosts, sentinel_kwargs=found.of_sentinels)  # type: ignore[no-untyped-call]
            pool: Pool = _SentinelPool(found.service, sentinels, **found.of_master)  # type: ignore[no-untyped-call]
        else:
            pool = Pool(**{**DEFAULTS, **redis.asyncio.connection.parse_url(url), **options})
        pool.connection_class(**pool.connection_kwargs)  # refuses an unknown option; it does not connect
    return pool
