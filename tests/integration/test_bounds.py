"""Bounds: on waiting events, unread results, replication, and the memory of the server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import redis

from microbatch.broker.errors import BatcherFull, ConfigError, InDoubt, Refused, ServerError
from microbatch.broker.lua import scripts
from microbatch.broker.transport.request import call
from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.proxy import Proxy
from tests.sentinel import Sentinel
from tests.servers import LOCALHOST, Program, RealServer
from tests.unit.steps import values_of
from tests.waiting import wait_until

RECORD = """
import sys
from microbatch.broker.errors import BatcherFull
from microbatch.producer import Config, start

first, count = int(sys.argv[1]), int(sys.argv[2])
with start(Config()) as mb:
    for event in range(first, first + count):
        try:
            mb.record_event(event)
        except BatcherFull:
            print("full at", event, flush=True)
            break
        print("recorded", event, flush=True)
"""


def test_all_producers_together_are_bounded_and_told(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_waiting=50, frequency=600_000, max_size=1_000) as fleet:
        producers = [fleet.run(RECORD, first, 100) for first in (0, 1_000)]
        assert [producer.wait() for producer in producers] == [0, 0]
        recorded = [int(line.split()[1]) for one in producers for line in one.lines if line[0] == "r"]
        assert fleet.broker.events.waiting() == len(recorded) == 50
        for producer in producers:
            assert producer.lines[-1].startswith("full at")
        fleet.worker()
        fleet.scheduler()
        fleet.finish(fleet.batcher(result_handler=events.extend))
    assert sorted(events) == sorted(recorded)


def test_all_producers_together_wait_for_room(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    settings = {"max_waiting": 20, "block_when_full": 30.0, "max_size": 10, "frequency": 100}
    with Fleet(server, tmp_path, ECHO, **settings) as fleet:
        producers = [fleet.run(RECORD, first, 200) for first in (0, 1_000)]
        wait_until(lambda: fleet.broker.events.waiting() == 20)
        assert all(producer.running for producer in producers)
        fleet.worker()
        fleet.scheduler()
        most = 0
        while any(producer.running for producer in producers):
            most = max(most, fleet.broker.events.waiting())
        assert [producer.wait() for producer in producers] == [0, 0]
        assert most <= 20
        fleet.finish(fleet.batcher(result_handler=events.extend))
    assert sorted(events) == [*range(200), *range(1_000, 1_200)]


def test_waiting_for_room_has_an_end(valkey_server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(valkey_server, tmp_path, ECHO, max_waiting=2, block_when_full=0.3) as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        mb.record_events([1, 2])
        with pytest.raises(BatcherFull, match="max_waiting"):
            mb.record_event(3)
        fleet.worker()
        fleet.scheduler()
        fleet.finish(mb)
    assert events == [1, 2]


def test_cutting_pauses_while_too_many_results_are_unread(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, results_max=3, max_size=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=events.extend)
        for event in range(3):
            mb.record_event(event)
        wait_until(lambda: fleet.broker.server.do("XLEN", fleet.broker.keys.results) == 3)
        wait_until(  # a cut that began earlier is not held back
            lambda: (
                fleet.broker.held_back()
                == "3 results wait for a handler; results_max is 3, and there is no consumer"
            )
        )
        mb.record_events(range(3, 10))
        wait_until(lambda: not server.admin.exists(fleet.broker.keys.wake))  # the scheduler has looked
        assert fleet.broker.events.waiting() == 7
        handling = threading.Thread(target=mb.wait_for_results)
        handling.start()
        wait_until(lambda: len(events) == 10)
        mb.stop()
        handling.join()
        wait_until(lambda: not fleet.broker.held_back())
    assert sorted(events) == list(range(10))


def test_without_a_replica_a_replicated_event_is_in_doubt(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, durability="replicated") as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        with pytest.raises(InDoubt, match=r"no replica of .* confirmed") as raised:
            mb.record_event(1)
        assert "in doubt" in str(raised.value)
        assert fleet.broker.events.waiting() == 1
        fleet.worker()
        fleet.scheduler()
        fleet.finish(mb)
    assert events == [1]


def test_results_of_what_is_in_flight_come_although_cutting_pauses(
    server: RealServer, tmp_path: Path
) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, results_max=1, max_size=1) as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        mb.record_events(range(5))
        fleet.scheduler()
        fleet.wait_for_cut(5)  # all at once, because no result was unread
        fleet.worker()
        wait_until(lambda: fleet.broker.server.do("XLEN", fleet.broker.keys.results) == 5)
        wait_until(fleet.broker.held_back)
        fleet.finish(mb)
    assert sorted(events) == list(range(5))


@pytest.mark.leaves("seen")
@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_a_repeated_call_is_in_doubt_until_a_replica_has_the_event(
    make_server: MakeServer, tmp_path: Path, program: Program
) -> None:
    server = make_server(program, tcp=True, arguments=["--repl-diskless-sync-delay", "0"])
    replica = make_server(program, tcp=True, arguments=["--replicaof", LOCALHOST, str(server.port)])
    wait_until(lambda: server.admin.wait(1, 100) == 1)
    events: list[str] = []
    settings = {"durability": "replicated", "dedupe_window": 60}
    with Fleet(server, tmp_path, ECHO, **settings) as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        mb.record_event("before", id="before")  # the replica has data from this connection
        other = fleet.batcher()  # but none from this batcher's connection
        replica.pause()
        for producer in (mb, mb, other):
            with pytest.raises(InDoubt, match=r"no replica of .* confirmed"):
                producer.record_event("meanwhile", id="meanwhile")
        replica.resume()
        for producer in (mb, other):
            producer.record_event("meanwhile", id="meanwhile")
        assert fleet.broker.events.waiting() == replica.admin.llen(fleet.broker.keys.events) == 2
        fleet.worker()
        fleet.scheduler()
        fleet.finish(mb)
    assert sorted(events) == ["before", "meanwhile"]


def answers(fleet: Fleet) -> bool:
    """Whether Sentinel names a server that accepts writes."""
    try:
        return bool(fleet.broker.server.do("SET", "test:answers", 1))
    except ServerError:
        return False


def is_master(server: RealServer) -> bool:
    try:
        return bool(server.admin.info("replication")["role"] == "master")
    except redis.ConnectionError:
        return False  # Sentinel closes all connections when it makes a replica the master


def test_a_failover_loses_nothing_that_was_acknowledged_as_replicated(
    make_server: MakeServer, tmp_path: Path
) -> None:
    first = make_server(tcp=True)
    second = make_server(tcp=True, arguments=["--replicaof", LOCALHOST, str(first.port)])
    events: list[int] = []
    acknowledged: list[int] = []
    with (
        Sentinel("valkey", tmp_path, first) as sentinel,
        Fleet(second, tmp_path, ECHO, redis_url=sentinel.url, durability="replicated") as fleet,
    ):
        wait_until(lambda: sentinel.replicas() == 1)
        mb = fleet.batcher(result_handler=events.extend)
        enough = threading.Event()
        tried = 0

        def record() -> None:
            nonlocal tried
            while not enough.is_set():
                tried += 1
                try:
                    mb.record_event(tried)
                except ServerError:
                    continue
                acknowledged.append(tried)

        recording = threading.Thread(target=record)
        recording.start()
        wait_until(lambda: len(acknowledged) >= 300)
        first.kill()
        wait_until(lambda: is_master(second), 30)
        enough.set()
        recording.join()
        wait_until(lambda: answers(fleet), 30)
        fleet.pool(1)  # the pool starts another worker if Sentinel names no server to the first
        fleet.scheduler()
        fleet.finish(mb)
    assert len(acknowledged) >= 300
    assert set(acknowledged) <= set(events)
    assert len(events) == len(set(events))


def test_a_call_in_doubt_may_be_repeated_with_its_id(valkey_server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    proxy = Proxy(valkey_server)
    settings = {"redis_url": proxy.url, "dedupe_window": 1.0}
    with proxy, Fleet(valkey_server, tmp_path, ECHO, **settings) as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        mb.record_event(0, id="first")  # the server knows the script now
        proxy.eat_reply_to("EVALSHA", "second")
        with pytest.raises(InDoubt):
            mb.record_event(1, id="second")
        mb.record_event(1, id="second")
        mb.record_event(1, id="second")
        assert fleet.broker.events.waiting() == 2
        wait_until(lambda: not valkey_server.admin.exists(fleet.broker.keys.seen))
        mb.record_event(2, id="second")  # outside the window, the id belongs to another event
        assert fleet.broker.events.waiting() == 3
        fleet.worker()
        fleet.scheduler()
        fleet.finish(mb)
        wait_until(lambda: not valkey_server.admin.exists(fleet.broker.keys.seen))
    assert sorted(events) == [0, 1, 2]


def test_an_id_without_a_window_is_refused(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path) as fleet, pytest.raises(ConfigError, match="dedupe_window"):
        fleet.batcher().record_event(1, id="first")


@pytest.mark.parametrize("guarded", [False, True], ids=["plain", "guarded"])
def test_a_server_out_of_memory_refuses_and_nothing_is_half_done(
    server: RealServer, tmp_path: Path, guarded: bool
) -> None:
    events: list[str] = []
    settings = {"max_waiting": 1_000_000} if guarded else {}
    with Fleet(server, tmp_path, ECHO, **settings) as fleet:
        mb = fleet.batcher(result_handler=events.extend)
        mb.record_event("before")
        server.admin.config_set("maxmemory", 1)
        try:
            with pytest.raises(Refused, match="used memory"):
                mb.record_event("meanwhile")
            with pytest.raises(Refused, match="used memory"):
                mb.record_events(["meanwhile"] * 10)
            fleet.worker()
            fleet.scheduler()
            assert fleet.broker.events.waiting() == 1
        finally:
            server.admin.config_set("maxmemory", 0)
        mb.record_event("after")
        fleet.finish(mb)
    assert sorted(events) == ["after", "before"]


def test_a_server_that_is_read_only_refuses(make_server: MakeServer, tmp_path: Path) -> None:
    first = make_server(tcp=True)
    second = make_server(tcp=True, arguments=["--replicaof", LOCALHOST, str(first.port)])
    wait_until(lambda: second.admin.info("replication").get("master_link_status") == "up")
    with Fleet(second, tmp_path) as fleet:
        mb = fleet.batcher()
        with pytest.raises(Refused, match=r"(?i)read.?only"):
            mb.record_event(1)
        assert fleet.broker.events.waiting() == 0


LONG, SHORT = 3_600.0, 0.4


@pytest.mark.leaves("seen", "events")
@pytest.mark.parametrize(
    ("calls", "recorded"),
    [
        pytest.param([(LONG, "a"), (SHORT, "b"), "wait", (LONG, "a")], ["a", "b"], id="beside another id"),
        pytest.param(
            [(LONG, "a"), (SHORT, "b"), "wait", (SHORT, "c"), "wait", (LONG, "a")],
            ["a", "b", "c"],
            id="after another id was forgotten",
        ),
        pytest.param([(LONG, "a"), "wait", (SHORT, "a")], ["a"], id="by the one with the short window"),
        pytest.param([(LONG, "a"), (SHORT, "a"), "wait", (LONG, "a")], ["a"], id="by both"),
        pytest.param([(SHORT, "a"), (LONG, "b"), "wait", (LONG, "a")], ["a", "b", "a"], id="it was short"),
        pytest.param([(SHORT, "a"), (SHORT, "a"), "wait", (SHORT, "a")], ["a", "a"], id="one window"),
    ],
)
def test_an_id_is_remembered_for_the_window_of_the_call_that_recorded_it(
    server: RealServer, tmp_path: Path, calls: list[tuple[float, str] | str], recorded: list[str]
) -> None:
    with Fleet(server, tmp_path) as fleet:
        for call in calls:
            if isinstance(call, str):
                time.sleep(SHORT + 0.2)
            else:
                window, event_id = call
                fleet.batcher(dedupe_window=window).record_event(event_id, id=event_id)
        raws = server.admin.lrange(fleet.broker.keys.events, 0, -1)
        assert values_of(raws) == recorded  # type: ignore[arg-type]


@pytest.mark.leaves("seen", "events")
def test_a_write_for_replication_forgets_no_id(server: RealServer, tmp_path: Path) -> None:
    """Even if the id was seen already, and the call has a short window."""
    with Fleet(server, tmp_path) as fleet:
        fleet.batcher(dedupe_window=LONG).record_event("a", id="a")
        keys, now_ms = fleet.broker.keys, fleet.broker.clock.now_ms()
        args = (0, "a", now_ms, int(SHORT * 1000), 1, b"never recorded")
        record = call(scripts.RECORD, (keys.events, keys.seen), args)
        assert fleet.broker.server.perform(record) == -2
        assert int(server.admin.pttl(keys.seen)) > 3_500_000
