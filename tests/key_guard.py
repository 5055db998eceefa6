"""What a test may leave in a server: only the keys that the documents call permanent.

A key that stays behind is an event that nobody finds, or memory that nobody frees. So integration tests fail
for one, unless they say which parts of a batcher they leave and mean to:
``@pytest.mark.leaves("dead", "batch")``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import redis

from tests.servers import RealServer

# <prefix>:{<name>}:<part>, or <prefix>:{<name>}:batch:<id>
_OURS = re.compile(r"[^{}]+:\{[^{}]+\}:(?P<part>\w+)")

# `results` is permanent as an empty stream only: an entry is a result that was not handled.
# `wake` has each word once at most, for the next scheduler: workers leave them when none runs as well.
_PERMANENT = {"config", "stats", "flushes", "schedulers", "results", "wake"}
# They go by themselves, so they may be there as long as they have a time to live: the lease of a killed
# scheduler, the progress stream a minute after the last wait, the row of failures ten minutes after its last.
_EXPIRING = {"lease", "progress", "held", "failing", "breaker"}
# RQ's own, and what tests count in.
_NOT_OURS = ("rq:", "test:")


def keys_left(server: RealServer, leaves: Iterable[str] = ()) -> list[str]:
    """What should not be there, in any of the server's databases: each key with its type."""
    allowed = set(leaves)
    left: list[str] = []
    for database in (int(name.removeprefix("db")) for name in server.admin.info("keyspace")):
        with redis.Redis.from_url(server.socket_url, db=database, decode_responses=True) as client:
            left += [f"{key}: {client.type(key)} in database {database}" for key in _wrong(client, allowed)]
    return sorted(left)


def _wrong(client: redis.Redis, allowed: set[str]) -> Iterator[str]:
    for key in client.scan_iter(count=1000):
        if key.startswith(_NOT_OURS):
            continue
        ours = _OURS.match(key)
        part = ours["part"] if ours else ""
        if part in allowed or (part in _EXPIRING and client.pttl(key) != -1):
            continue
        if part not in _PERMANENT or (part == "results" and client.xlen(key)):
            yield key
