"""The keys that a test may leave on a server: only those that the documents call permanent.

A leftover key is an event that nobody finds, or memory that nobody frees. So an integration test fails if it
leaves one, unless a marker names the parts of the batcher that it leaves on purpose:
``@pytest.mark.leaves("dead", "batch")``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import redis

from tests.servers import RealServer

# <prefix>:{<name>}:<part>, or <prefix>:{<name>}:batch:<id>
_OURS = re.compile(r"[^{}]+:\{[^{}]+\}:(?P<part>\w+)")

# `results` is permanent only as an empty stream: an entry is a result that was not handled. `wake` holds each
# word at most once, for the next scheduler. Workers leave words there even when no scheduler runs.
_PERMANENT = {"config", "stats", "flushes", "schedulers", "results", "wake"}
# These keys expire, so they may stay as long as they have a time to live: the lease of a killed scheduler,
# the progress stream for a minute after the last wait, the row of failures for ten minutes after the last
# failure, a client's replies for a minute after it has read them last.
_EXPIRING = {"lease", "progress", "held", "failing", "breaker", "reply"}
# RQ's own keys, and keys in which tests count.
_NOT_OURS = ("rq:", "test:")


def keys_left(server: RealServer, leaves: Iterable[str] = ()) -> list[str]:
    """The keys that should not be there, each with its type, in any of the server's databases."""
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
