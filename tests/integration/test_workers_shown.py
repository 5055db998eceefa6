"""The workers that RQ shows: those that are alive, with their current state, within seconds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from rq import Worker
from rq.serializers import JSONSerializer

from microbatch.ops.rq_facts import WorkerFact, workers_of
from tests.fleet import HASTY, Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

HELD = (
    HASTY
    + """
def process(batch):
    note("runs", os.getpid())
    wait_for("go")
    return batch
"""
)


def shown(fleet: Fleet) -> list[WorkerFact]:
    return workers_of(fleet.broker)


def wait_for_busy(fleet: Fleet) -> WorkerFact:
    def busy() -> list[WorkerFact]:
        return [fact for fact in shown(fleet) if fact.state == "busy" and fact.batch]

    return wait_until(busy, message=lambda: f"a busy worker: {shown(fleet)}")[0]


def names(server: RealServer) -> set[bytes | str]:
    """The names in RQ's sets of workers."""
    return {*server.admin.smembers("rq:workers"), *server.admin.smembers("rq:workers:mb:letters")}


def test_a_killed_worker_and_its_run_are_shown_no_more(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, HELD, batch_timeout=600) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=len)
        mb.record_event(1)
        killed = wait_for_busy(fleet)
        os.kill(int(fleet.wait_for_note("runs")[0]), signal.SIGKILL)
        wait_until(lambda: killed.name not in {fact.name for fact in shown(fleet)}, 10)
        wait_until(lambda: len(names(server)) == 1, 10, lambda: str(names(server)))  # its successor's name
        fleet.let("go")
        fleet.finish(mb)
        pool.terminate()
        assert pool.wait() == 0, pool.output
        assert shown(fleet) == []
        assert server.admin.zcard("rq:wip:mb:letters") == 0
        assert not server.admin.keys("rq:execution*")
        assert all(server.admin.ttl(key) >= 0 for key in server.admin.keys("rq:job:*"))


@pytest.mark.early
@pytest.mark.leaves("batch", "inflight")
def test_workers_whose_pool_was_killed_too_expire(valkey_server: RealServer, tmp_path: Path) -> None:
    admin = valkey_server.admin
    with Fleet(valkey_server, tmp_path, HELD, batch_timeout=600) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler()
        fleet.batcher().record_event(1)
        killed = wait_for_busy(fleet)
        pool.kill()
        (key,) = admin.smembers("rq:workers:mb:letters")
        assert 0 < admin.ttl(key) <= 15
        admin.expire(key, 0)
        assert killed.name not in {fact.name for fact in shown(fleet)}
        wait_until(lambda: names(valkey_server) == set(), 60)  # the scheduler removes them


def test_a_busy_worker_stays_shown(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, HELD, batch_timeout=600) as fleet:
        fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=len)
        mb.record_event(1)
        busy = wait_for_busy(fleet)
        for key in (f"rq:worker:{busy.name}", f"rq:worker:{busy.name}:executions"):
            assert valkey_server.admin.expire(key, 6)
        seen = busy.heartbeat_ms or 0
        wait_until(lambda: (wait_for_busy(fleet).heartbeat_ms or 0) > seen + 7_000, 30)
        (found,) = shown(fleet)
        assert found.batch == busy.batch is not None
        fleet.let("go")
        fleet.finish(mb)
        wait_until(lambda: [fact.state for fact in shown(fleet)] == ["idle"], 10, lambda: str(shown(fleet)))


def test_a_server_that_came_back_empty_shows_its_workers_again(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        fleet.pool(2)
        wait_until(lambda: len(shown(fleet)) == 2)
        before = {fact.name for fact in shown(fleet)}
        server.admin.flushall()
        wait_until(lambda: {fact.name for fact in shown(fleet)} == before, 20, lambda: str(shown(fleet)))
        found = Worker.all(connection=fleet.broker.server.client, serializer=JSONSerializer)
        assert all(worker.birth_date is not None and worker.pid for worker in found)
