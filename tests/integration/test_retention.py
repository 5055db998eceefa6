"""Retention on real servers: quarantined values are found, and judged by how long nobody has touched them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.inspect.quarantine import Quarantine
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.retention import Retention
from tests.fleet import Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("quarantine", "dead", "batch", "inflight", "events")

FAILING = """\
from microbatch.worker import Reject


def process(batch):
    raise Reject("no")
"""


def retention_of(fleet: Fleet) -> Retention:
    return Retention(fleet.broker, JobQueue(fleet.broker.config, fleet.broker.server))


def quarantined_keys(fleet: Fleet, server: RealServer) -> set[str]:
    return {key.decode() for key in server.admin.scan_iter(fleet.broker.keys.quarantine("") + "*")}


def idle(server: RealServer, key: str) -> int:
    return int(server.admin.object("IDLETIME", key))


def until_idle(server: RealServer, *keys: str) -> None:
    wait_until(lambda: all(idle(server, key) >= 2 for key in keys))


def run_through(retention: Retention) -> int:
    """Run until every key has been looked at once, from the first to the last."""
    return sum(retention.run_once() for _ in range(20))


def test_quarantined_values_that_nobody_touches_are_deleted(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, keep_dead="2s") as fleet:
        key = fleet.broker.keys.quarantine
        server.admin.rpush(key("0" * 32), "what was no batch", "and its events")
        server.admin.set(key("events"), "of another type")
        server.admin.mset({f"other:{number}": "x" for number in range(5_000)})
        server.admin.mset(
            {"mb:{letter}:quarantine:x": 1, "mb:{lettersX}:quarantine:x": 1, "mb:{letters}:quarantined": 1}
        )
        others = server.admin.dbsize() - 2
        until_idle(server, key("0" * 32), key("events"))
        server.admin.get(key("events"))  # this reads it
        assert run_through(retention_of(fleet)) == 1
        assert quarantined_keys(fleet, server) == {key("events")}
        until_idle(server, key("events"))
        assert run_through(retention_of(fleet)) == 1
        assert server.admin.dbsize() == others
        server.admin.flushall()


def test_the_newest_quarantined_values_stay(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, keep_dead_max=3) as fleet:
        old, new = [
            [fleet.broker.keys.quarantine(f"{age}-{number}") for number in range(3)] for age in ("a", "b")
        ]
        server.admin.mset(dict.fromkeys(old, "x"))
        until_idle(server, *old)
        server.admin.mset(dict.fromkeys(new, "x"))
        results = fleet.broker.keys.quarantine("results")
        assert run_through(retention_of(fleet)) == 3
        assert quarantined_keys(fleet, server) == set(new)
        server.admin.delete(*new)
        server.admin.rpush(results, *range(2_500))
        run_through(retention_of(fleet))
        assert server.admin.lrange(results, 0, -1) == [b"2497", b"2498", b"2499"]


def test_a_key_that_is_no_list_is_left_for_its_age(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, keep_dead_max=3) as fleet:
        server.admin.set(fleet.broker.keys.quarantine("results"), "no list")
        assert run_through(retention_of(fleet)) == 0
        assert server.admin.get(fleet.broker.keys.quarantine("results")) == b"no list"


def test_a_server_that_evicts_by_frequency_tells_no_age_and_keeps_all(
    server: RealServer, tmp_path: Path
) -> None:
    server.admin.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        with Fleet(server, tmp_path, keep_dead=1, keep_dead_max=1) as fleet:
            keys = [fleet.broker.keys.quarantine(str(number)) for number in range(3)]
            server.admin.mset(dict.fromkeys(keys, "x"))
            assert Quarantine(fleet.broker.server, fleet.broker.keys).look() == []
            assert run_through(retention_of(fleet)) == 0
            assert quarantined_keys(fleet, server) == set(keys)
    finally:
        server.admin.config_set("maxmemory-policy", "noeviction")


def test_the_active_scheduler_keeps_no_more_dead_batches_than_it_is_told(
    server: RealServer, tmp_path: Path, command: Callable[..., Any]
) -> None:
    settings = {"max_retries": 0, "isolate_failures": False, "max_size": 1, "keep_dead_max": 2}
    with Fleet(server, tmp_path, FAILING, **settings) as fleet:
        batcher = fleet.batcher()
        fleet.worker()
        fleet.scheduler()
        batcher.record_events(range(5))
        fleet.finish(batcher)
        counters = fleet.broker.stats.counters
        wait_until(lambda: counters().purged_batches == 3, timeout=20, message=fleet.state)
        assert fleet.broker.dead.count() == 2
        wait_until(lambda: server.admin.zcard("rq:failed:mb:letters") == 2)
        status = command("microbatch", "status", "letters", url=server.url)
        assert status.wait() == 0
        assert any(line.split() == ["dead", "kept", "2", "batches", "at", "most"] for line in status.lines)
