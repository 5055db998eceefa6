"""A server that forgets its scripts, is full, or holds values that do not belong there."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from microbatch.broker.errors import Refused, ServerError, Unavailable
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.lua import scripts
from microbatch.broker.state.claims import RqPlace, claim_of
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import NewBatch, new_batch
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer import BatchInfo
from microbatch.scheduler.queue import JobQueue
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet
from tests.servers import Program, RealServer
from tests.unit.steps import account_of, check_account, retry
from tests.waiting import wait_until

# A wake-up word is only a hint, and may arrive after the scheduler's end.
pytestmark = pytest.mark.leaves("wake")

SLOW = (
    HASTY
    + """
def process(batch, info: BatchInfo):
    note("runs", f"{info.id} {info.attempt}")
    wait_for("go")
    return batch
"""
)


class Handled:
    """A result handler that notes the events of each batch, and checks that no batch comes twice."""

    def __init__(self) -> None:
        self.batches: dict[str, list[int]] = {}

    def run(self, result: list[int], info: BatchInfo) -> None:
        assert info.id not in self.batches
        self.batches[info.id] = result

    @property
    def events(self) -> list[int]:
        return sorted(event for batch in self.batches.values() for event in batch)


def try_to_cut(fleet: Fleet, size: int) -> NewBatch:
    """Cut as the active scheduler does, with RQ's commands in the same transaction."""
    lease, queue = fleet.broker.lease(), JobQueue(fleet.config(), fleet.broker.server)
    queue.prepare()
    assert lease.acquire()
    batch = new_batch(Header(Trigger.TICK, size, fleet.broker.clock.now_ms()))
    try:
        with lease.fence() as fence:
            fence.cut([batch], queue.to_enqueue([batch]), due_ms=fleet.broker.clock.now_ms())
    finally:
        fleet.broker.server.do("DEL", fleet.broker.keys.lease)
    return batch


def assert_drains(fleet: Fleet, recorded: list[int]) -> None:
    """A fresh scheduler, worker and consumer find everything once."""
    handled = Handled()
    fleet.worker()
    fleet.scheduler()
    fleet.finish(fleet.batcher(result_handler=handled))
    assert handled.events == recorded
    assert list(Audit(fleet.broker).findings()) == []
    check_account(fleet.broker)


def test_scripts_are_forgotten_between_load_and_use(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        fleet.batcher().record_events([1, 2, 3])
        for script in vars(scripts).values():
            if isinstance(script, scripts.Script):
                server.admin.script_load(script.text)
        server.admin.script_flush()
        batch = try_to_cut(fleet, 3)
        server.admin.script_flush()
        run = fleet.broker.ledger.claim(batch.id, owner="me", now_ms=1, due_ms=2)
        assert run is not None
        assert fleet.broker.claims.renew(claim_of(run), due_ms=3)
        server.admin.script_flush()
        assert retry(fleet.broker, run, due_ms=4)
        assert_drains(fleet, [1, 2, 3])


def fill(server: RealServer) -> None:
    server.admin.config_set("maxmemory", 1)


def make_room(server: RealServer) -> None:
    server.admin.config_set("maxmemory", 0)


def test_the_memory_is_full_when_a_batch_is_cut(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        fleet.batcher().record_events([1, 2, 3])
        lease, queue = fleet.broker.lease(), JobQueue(fleet.config(), fleet.broker.server)
        queue.prepare()
        assert lease.acquire()
        batch = new_batch(Header(Trigger.TICK, 3, fleet.broker.clock.now_ms()))
        with lease.fence() as fence:
            fill(server)
            with pytest.raises(Refused):
                fence.cut([batch], queue.to_enqueue([batch]), due_ms=1)
        make_room(server)
        assert fleet.broker.events.waiting() == 3
        assert fleet.broker.ledger.in_flight() == []
        assert not server.admin.exists("rq:queue:mb:letters", f"rq:job:{batch.id}")
        lease.release()
        assert_drains(fleet, [1, 2, 3])


def test_the_memory_is_full_for_a_while(server: RealServer, tmp_path: Path) -> None:
    handled = Handled()
    with Fleet(server, tmp_path, SLOW, lease_ttl=0.5, max_size=2) as fleet:
        worker = fleet.worker()
        scheduler = fleet.scheduler_process()
        mb = fleet.batcher(result_handler=handled)
        mb.record_events(range(6))
        fleet.wait_for_note("runs")
        fill(server)
        fleet.let("go")  # the first commit finds no room
        with pytest.raises(Refused):
            mb.record_event(6)
        scheduler.wait_for_line("refused")
        make_room(server)
        fleet.finish(mb)
        assert worker.running, worker.output
        assert scheduler.running, scheduler.output
        assert list(Audit(fleet.broker).findings()) == []
        check_account(fleet.broker)
    assert handled.events == list(range(6))


def test_what_frees_memory_is_done_while_it_is_full(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        broker = fleet.broker
        fleet.batcher().record_events([1, 2, 3])
        done, dead = try_to_cut(fleet, 2), try_to_cut(fleet, 1)
        claimed = broker.ledger.claim(dead.id, owner="me", now_ms=1, due_ms=2)
        assert claimed is not None
        failure = Failure("no", "", 1)
        entry = Outcome(dead.id, dead.header, 1, 1, failure=failure).encode()
        assert broker.ledger.bury(dead.id, claimed.run, failure, Ending(entry), now_ms=1)
        fill(server)
        with pytest.raises(Refused):
            broker.dead.replay(dead.id)  # a replay frees no memory
        assert broker.ledger.commit(
            done.id, Ending(Outcome(done.id, done.header, 1, 1, result=b"[1, 2]").encode())
        )
        assert broker.dead.purge(dead.id) == 1
        make_room(server)
        server.admin.delete("rq:queue:mb:letters")
        check_account(broker)
        assert_drains(fleet, [1, 2])


@pytest.mark.parametrize("has_job", [True, False])
def test_a_batch_is_given_back_while_the_memory_is_full(
    server: RealServer, tmp_path: Path, *, has_job: bool
) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        broker = fleet.broker
        fleet.batcher().record_event(1)
        batch = try_to_cut(fleet, 1)
        server.admin.delete("rq:queue:mb:letters")
        claimed = broker.ledger.claim(batch.id, owner="me", now_ms=1, due_ms=2)
        assert claimed is not None
        fill(server)
        rq = RqPlace("rq:queue:mb:letters", "rq:job:") if has_job else None
        assert broker.claims.give_back(claim_of(claimed), rq, due_ms=2)
        make_room(server)
        assert server.admin.llen("rq:queue:mb:letters") == has_job
        record = server.admin.lindex(broker.keys.batch(batch.id), 1)
        assert record == RunRecord().encode().encode()  # neither an attempt nor a death is counted
        assert_drains(fleet, [1])


@pytest.mark.parametrize("part", ["inflight", "stats", "progress"])
def test_a_key_of_the_cut_is_of_a_wrong_type(server: RealServer, tmp_path: Path, part: str) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        key = getattr(fleet.broker.keys, part)
        fleet.batcher().record_events([1, 2, 3])
        server.admin.set(key, "a string")
        with pytest.raises(ServerError, match="WRONGTYPE"):
            try_to_cut(fleet, 3)
        assert fleet.broker.events.waiting() == 3
        server.admin.delete(key, "rq:queue:mb:letters")
        assert_drains(fleet, [1, 2, 3])


@pytest.mark.parametrize("key", ["rq:queues", "rq:queue:mb:letters"])
def test_a_key_of_rq_is_of_a_wrong_type(server: RealServer, tmp_path: Path, key: str) -> None:
    with Fleet(server, tmp_path, HASTY + ECHO) as fleet:
        fleet.batcher().record_events([1, 2, 3])
        server.admin.set(key, "a string")
        with pytest.raises(ServerError, match="WRONGTYPE"):
            try_to_cut(fleet, 3)  # it is cut, and only its job may be missing
        assert len(fleet.broker.ledger.in_flight()) == 1
        server.admin.delete(key)
        assert_drains(fleet, [1, 2, 3])


@pytest.mark.parametrize("part", ["results", "stats"])
def test_a_key_of_the_commit_is_of_a_wrong_type(server: RealServer, tmp_path: Path, part: str) -> None:
    with Fleet(server, tmp_path, ECHO) as fleet:
        fleet.batcher().record_events([1, 2, 3])
        batch = try_to_cut(fleet, 3)
        key = getattr(fleet.broker.keys, part)
        if server.admin.exists(key):
            server.admin.rename(key, "test:kept")
        server.admin.set(key, "a string")
        with pytest.raises(Refused, match="WRONGTYPE"):
            fleet.broker.ledger.commit(batch.id, Ending(("v", 1, "result", "1")))
        assert fleet.broker.ledger.in_flight() == [batch.id]
        server.admin.delete(key)
        if server.admin.exists("test:kept"):
            server.admin.rename("test:kept", key)
        assert_drains(fleet, [1, 2, 3])


def server_on_a_disk(make_server: MakeServer, fsync: str) -> RealServer:
    """A server whose disk can be full: a limit on the size of files stands for that."""
    server = make_server("valkey", appendonly=True, arguments=["--appendfsync", fsync])
    server._command[:0] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]
    server.restart()
    return server


def limit_disk(server: RealServer, size: int) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_the_disk_is_full_for_a_while(make_server: MakeServer, tmp_path: Path) -> None:
    server, handled = server_on_a_disk(make_server, "everysec"), Handled()
    with Fleet(server, tmp_path, HASTY + ECHO, lease_ttl=0.5, max_size=2) as fleet:
        fleet.worker()
        scheduler = fleet.scheduler_process()
        wait_until(fleet.active_pid)
        mb = fleet.batcher(result_handler=handled)
        mb.record_events(range(6))
        limit_disk(server, 1024)
        scheduler.wait_for_line("refused")
        with pytest.raises(Refused):
            mb.record_event(6)
        limit_disk(server, resource.RLIM_INFINITY)
        wait_until(lambda: server.admin.info("persistence")["aof_last_write_status"] == "ok")
        fleet.finish(mb)
        assert list(Audit(fleet.broker).findings()) == []
        check_account(fleet.broker)
    assert handled.events == list(range(6))


def test_a_server_that_ends_because_its_disk_is_full_loses_nothing(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server, handled = server_on_a_disk(make_server, "always"), Handled()
    with Fleet(server, tmp_path, HASTY + ECHO, lease_ttl=0.5, max_size=2) as fleet:
        fleet.pool(1)  # the pool restarts a worker that began while the server was away
        fleet.scheduler_process()
        wait_until(fleet.active_pid)
        mb = fleet.batcher(result_handler=handled)
        mb.record_events(range(6))
        limit_disk(server, 1024)
        wait_until(lambda: not server.running)  # at the next write, from any process
        with pytest.raises(Unavailable):
            mb.record_event(6)
        server.start()
        fleet.finish(mb)
        assert list(Audit(fleet.broker).findings()) == []
        check_account(fleet.broker)
    assert handled.events == list(range(6))


@pytest.mark.parametrize("program", ["valkey", "redis"])
@pytest.mark.parametrize("lost_bytes", [1, 400, 1_000])
def test_the_tail_of_the_append_only_file_is_cut_off(
    make_server: MakeServer, tmp_path: Path, program: Program, lost_bytes: int
) -> None:
    server = make_server(program, appendonly=True, arguments=["--aof-load-truncated", "yes"])
    with Fleet(server, tmp_path, ECHO) as fleet:
        fleet.batcher().record_events([1, 2, 3])
        first = try_to_cut(fleet, 2)
        fleet.broker.ledger.commit(first.id, Ending(("v", 1, "result", "1")))
        server.kill()
        (tail,) = (server.folder / "appendonlydir").glob("*.incr.aof")
        with tail.open("r+b") as file:
            file.truncate(tail.stat().st_size - lost_bytes)
        server.start()
        # The commit is lost, and perhaps the cut, but each of them as a whole.
        assert account_of(fleet.broker).recorded == 3
        check_account(fleet.broker)
        assert fleet.broker.stats.counters().done_events == 0
        assert_drains(fleet, [1, 2, 3])


def test_a_batch_of_20_000_events(server: RealServer, tmp_path: Path) -> None:
    handled = Handled()
    with Fleet(server, tmp_path, ECHO, max_size=20_000, frequency=60_000) as fleet:
        fleet.worker()
        mb = fleet.batcher(result_handler=handled)
        mb.record_events(range(20_000))
        fleet.scheduler()
        fleet.finish(mb)
        check_account(fleet.broker)
    assert len(handled.batches) == 1
    assert handled.events == list(range(20_000))


@pytest.mark.parametrize("first_bad", [0, 9_999, 19_999])
def test_one_event_in_20_000_fails(valkey_server: RealServer, tmp_path: Path, first_bad: int) -> None:
    processor = f"""
from microbatch.broker.wire.batch import PartialFailure


def process(batch, info: BatchInfo):
    if {first_bad} in batch and info.attempt == 1:
        raise PartialFailure({{batch.index({first_bad}): "no"}}, batch[:1])
    return batch[:1]
"""
    with Fleet(valkey_server, tmp_path, HASTY + processor, max_size=20_000, retry_delay=0.01) as fleet:
        fleet.worker()
        mb = fleet.batcher()
        mb.record_events(range(20_000))
        fleet.scheduler()
        fleet.finish(mb)
        counters = fleet.broker.stats.counters()
        assert (counters.cut_batches, counters.done_events) == (2, 20_000)
        check_account(fleet.broker)
