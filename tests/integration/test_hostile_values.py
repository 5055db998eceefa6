"""Hostile and broken values under our keys are refused, reported in one line and quarantined."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from microbatch.broker.errors import ConfigError, Refused
from microbatch.broker.state.results import Results
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer import BatchFailure, Config
from microbatch.worker.rq.job import JOB_FUNCTION
from tests.fleet import ECHO, HASTY, Fleet
from tests.processes import Process
from tests.servers import RealServer
from tests.waiting import wait_until

KEY = "mb:{letters}:"
HEADER = Header(Trigger.TICK, 1, 1_700_000_000_000).encode()
RUN = RunRecord().encode()
EVENT = encode_event(b"1", 1_700_000_000_000)
DEEP = encode_event(b"[" * 1_000_000 + b"]" * 1_000_000, 1_700_000_000_000)

pytestmark = pytest.mark.leaves("quarantine", "dead", "batch")


class House:
    """A fleet under attack. Its worker and its scheduler are separate processes."""

    def __init__(self, fleet: Fleet, server: RealServer) -> None:
        self.fleet = fleet
        self.admin = server.admin
        self.worker = fleet.worker()
        self.scheduler = fleet.scheduler_process()
        self.scheduler.wait_for_line("active")
        wait_until(lambda: self.admin.scard("rq:workers") == 1)

    def assert_all_well(self) -> None:
        """Every process still runs, and does its work."""
        results: list[list[str]] = []
        mb = self.fleet.batcher(result_handler=results.append, failure_handler=ignore)
        wait_until(lambda: recorded(mb), message="an event to be recorded")
        self.fleet.finish(mb)
        assert ["good"] in results
        for process in (self.worker, self.scheduler):
            assert process.running, process.output
            assert not [line for line in process.lines if line.startswith("Traceback")], process.output

    def told_once(self, process: Process, pattern: str) -> None:
        process.wait_for_line(pattern)
        assert sum(bool(re.search(pattern, line)) for line in process.lines) == 1, process.output

    def quarantined(self) -> list[str]:
        keys: Any = self.admin.keys(KEY + "quarantine:*")
        return sorted(key.decode().removeprefix(KEY) for key in keys)


def ignore(failure: BatchFailure) -> None:
    """Handle a dead batch by doing nothing."""


def recorded(mb: Any) -> bool:
    try:
        mb.record_event("good")
    except Refused:  # until the scheduler has seen the value in the way
        return False
    return True


@pytest.fixture
def house(valkey_server: RealServer, tmp_path: Path) -> Iterator[House]:
    settings = {"max_retries": 1, "retry_delay": 0.05, "max_size": 10, "claim_after": 1}
    with Fleet(valkey_server, tmp_path, HASTY + ECHO, **settings) as fleet:
        yield House(fleet, valkey_server)


TYPES = [
    "events", "wake", "inflight", "dead", "seen", "results", "lease", "schedulers", "config", "stats",
    "progress",
]  # fmt: skip


def test_keys_of_the_wrong_type_are_quarantined(house: House) -> None:
    for part in TYPES:
        with house.admin.pipeline() as pipe:  # as one step: in between, the scheduler would make the key anew
            pipe.delete(KEY + part)
            if part in ("config", "stats", "events"):
                pipe.set(KEY + part, "hostile")
            else:
                pipe.hset(KEY + part, "hostile", "1")
            pipe.execute()
    for part in TYPES:
        house.told_once(house.scheduler, f"{part} was no .*, and is quarantined as .*:quarantine:{part}$")
    assert house.quarantined() == sorted(f"quarantine:{part}" for part in TYPES)
    house.assert_all_well()


@pytest.mark.parametrize("part", ["events", "inflight", "lease"])
def test_a_wrong_key_that_stops_all_work_is_quarantined_at_once(house: House, part: str) -> None:
    with house.admin.pipeline() as pipe:
        pipe.delete(KEY + part)
        pipe.sadd(KEY + part, "hostile")
        pipe.execute()
    house.scheduler.wait_for_line(rf"{part} was no \w+, and is quarantined", 3)
    house.assert_all_well()


def test_counters_that_are_no_numbers_are_quarantined(house: House) -> None:
    values: dict[str, str | bytes] = {
        "cut_events": "many", "done_events": "1e3", "mark_at": "", "dead_events": "9" * 400, "x": b"\xff\n",
    }  # fmt: skip
    for field, value in values.items():
        house.admin.hset(KEY + "stats", field, value)
    for field in values:
        house.told_once(house.scheduler, f"{field} was no number, and is quarantined")
    house.assert_all_well()
    assert house.admin.llen(KEY + "quarantine:stats:fields") == len(values)


BATCHES: dict[str, Callable[[redis.Redis, str], object]] = {
    "missing": lambda admin, key: admin.delete(key),
    "a string": lambda admin, key: admin.set(key, "hostile"),
    "a stream": lambda admin, key: admin.xadd(key, {"a": "b"}),
    "empty": lambda admin, key: admin.rpush(key, HEADER, RUN),
    "no header": lambda admin, key: admin.rpush(key, "{", RUN, EVENT),
    "a header of another version": lambda admin, key: admin.rpush(
        key, json.dumps({**json.loads(HEADER), "v": 2}), RUN, EVENT
    ),
    "a header with endless numbers": lambda admin, key: admin.rpush(
        key, HEADER.replace('"size":1', '"size":1e999'), RUN, EVENT
    ),
    "a header of the year 30000": lambda admin, key: admin.rpush(
        key, HEADER.replace("1700000000000", "1" * 18), RUN, EVENT
    ),
    "a header nested deeply": lambda admin, key: admin.rpush(key, "[" * 1_000_000, RUN, EVENT),
    "no run record": lambda admin, key: admin.rpush(key, HEADER, "often", EVENT),
    "a run record beyond all numbers": lambda admin, key: admin.rpush(key, HEADER, "9" * 5000 + " ", EVENT),
    "a failure in place of the run record": lambda admin, key: admin.rpush(
        key, HEADER, Failure("e", "", 1).encode(), EVENT
    ),
}


def test_batches_that_cannot_be_read_are_quarantined(house: House) -> None:
    ids = {what: new_id() for what in BATCHES}
    for what, batch_id in ids.items():
        BATCHES[what](house.admin, KEY + f"batch:{batch_id}")
        house.admin.zadd(KEY + "inflight", {batch_id: 0})
    for batch_id in ids.values():
        house.told_once(house.scheduler, f"batch {batch_id}: it can't be read, and is quarantined as")
    wait_until(lambda: house.admin.zcard(KEY + "inflight") == 0)
    assert house.quarantined() == sorted(f"quarantine:{ids[what]}" for what in ids if what != "missing")
    house.assert_all_well()


def test_a_job_of_a_batch_that_cannot_be_read_is_told_in_a_line(house: House) -> None:
    batch_id, in_two_seconds = new_id(), house.fleet.broker.clock.now_ms() + 2_000
    house.admin.rpush(KEY + f"batch:{batch_id}", HEADER, "often", EVENT)
    house.admin.zadd(KEY + "inflight", {batch_id: in_two_seconds})
    queue = Queue("mb:letters", connection=house.admin, serializer=JSONSerializer)
    queue.enqueue_call(JOB_FUNCTION, args=("letters", batch_id), job_id=batch_id)
    house.told_once(house.worker, f"batch {batch_id}: .* has no run record")
    house.told_once(house.scheduler, f"batch {batch_id}: it can't be read, and is quarantined as")
    house.assert_all_well()


def test_invalid_ids_are_quarantined(house: House) -> None:
    ids = [b"letters", b"../../x", b"\xff\xfe", b"a\nERROR forged", b"x" * 10_000, b""]
    for batch_id in ids:
        house.admin.rpush(b"mb:{letters}:batch:" + batch_id, HEADER, RUN, EVENT)
        house.admin.zadd(KEY + "inflight", {batch_id: 0})
    wait_until(lambda: house.admin.zcard(KEY + "inflight") == 0)
    assert len(house.quarantined()) == len(ids)
    house.assert_all_well()
    lines = [line for line in house.scheduler.lines if "it can't be read, and is quarantined as" in line]
    assert len(lines) == len(ids)
    assert not any(line.startswith("ERROR forged") for line in house.scheduler.lines)


EVENTS = {
    "no event": b"hostile",
    "another version": b"3" + EVENT[1:],
    "no length of the fields": b"2" + EVENT[1:],
    "fields beyond the end": b"2" + EVENT[1:12] + b"fff1",
    "a malformed field": b"2" + EVENT[1:12] + b"003k0g1",
    "empty": b"",
    "no JSON": encode_event(b"{", 1),
    "two values": encode_event(b"1,2", 1),
    "not UTF-8": encode_event(b'"\xff"', 1),
    "a million deep": DEEP,
}


def test_events_that_cannot_be_read_die_alone(house: House) -> None:
    for number, raw in enumerate(EVENTS.values()):
        house.admin.rpush(KEY + "events", raw, encode_event(b"%d" % number, 1))
    results: list[Any] = []
    failures: list[Any] = []
    mb = house.fleet.batcher(result_handler=results.extend, failure_handler=failures.append)
    house.fleet.finish(mb)
    assert sorted(results) == list(range(len(EVENTS)))
    assert sum(failure.batch.size for failure in failures) == len(EVENTS)
    assert all("DecodeError" in failure.error for failure in failures)
    house.assert_all_well()


def test_an_event_without_a_time_is_processed(house: House) -> None:
    house.admin.rpush(KEY + "events", b"1" + b"z" * 11 + b"1")
    results: list[Any] = []
    house.fleet.finish(house.fleet.batcher(result_handler=results.extend))
    assert results == [1]


GOOD_ENTRY = {
    "v": "1", "batch": "0" * 32, "header": HEADER, "attempt": "1", "recorded_at": "1700000000000",
    "result": "1",
}  # fmt: skip
ENTRIES: dict[str, dict[str, str | bytes]] = {
    "not ours": {"hello": "world"},
    "another version": {**GOOD_ENTRY, "v": "2"},
    "a bad header": {**GOOD_ENTRY, "header": "{"},
    "a bad number": {**GOOD_ENTRY, "attempt": "9" * 5000},
    "a time beyond all calendars": {**GOOD_ENTRY, "recorded_at": "9" * 18},
    "another id": {**GOOD_ENTRY, "batch": "../../x"},
    "no text": {**GOOD_ENTRY, "batch": b"\xff"},
    "no JSON": {**GOOD_ENTRY, "result": "{"},
    "a million deep": {**GOOD_ENTRY, "result": "[" * 1_000_000},
    "a bad failure": {**GOOD_ENTRY, "failure": '{"v":1}'},
    "a failure without end": {
        **GOOD_ENTRY, "failure": '{"v":1,"error":"","traceback":"","attempts":1e999}',
    },
}  # fmt: skip


def test_entries_that_are_no_results_are_quarantined(house: House, caplog: pytest.LogCaptureFixture) -> None:
    entry: Any
    for entry in ENTRIES.values():
        house.admin.xadd(KEY + "results", entry)
    house.assert_all_well()
    assert house.quarantined() == ["quarantine:results"]
    assert house.admin.llen(KEY + "quarantine:results") == len(ENTRIES)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == len(ENTRIES)
    for line in lines:
        assert "is quarantined as mb:{letters}:quarantine:results" in line
        assert "\n" not in line


def test_a_failure_whose_batch_is_of_the_wrong_type_is_handled(house: House) -> None:
    batch_id = new_id()
    house.admin.set(KEY + f"batch:{batch_id}", "hostile")
    house.admin.zadd(KEY + "dead", {batch_id: 1})
    failure = Failure("forged", "", 1).encode()
    entry: Any = {**GOOD_ENTRY, "batch": batch_id, "failure": failure}
    del entry["result"]
    house.admin.xadd(KEY + "results", entry)
    house.assert_all_well()


def test_a_stream_that_has_gone_is_made_anew(house: House) -> None:
    results: list[Any] = []
    mb = house.fleet.batcher(result_handler=results.append)
    handling = threading.Thread(target=mb.wait_for_results)
    handling.start()
    wait_until(lambda: house.admin.exists(KEY + "results"))
    house.admin.delete(KEY + "results")
    mb.record_event("good")
    wait_until(lambda: results == [["good"]])
    mb.stop()
    handling.join()


ASKS: dict[str, Callable[[Results], object]] = {
    "read": lambda results: results.read(count=1),
    "read_own": lambda results: results.read_own(count=1),
    "take_over": lambda results: results.take_over(idle_ms=0, count=1),
    "forget_silent": lambda results: results.forget_silent(idle_ms=0),
    "hand_back": lambda results: results.hand_back(),
    "leave": lambda results: results.leave_group(),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=list(ASKS))
@pytest.mark.parametrize("added_to", [False, True], ids=["gone", "anew without its group"])
def test_whatever_a_consumer_asks_of_a_stream_that_has_gone(
    server: RealServer, tmp_path: Path, added_to: bool, ask: Callable[[Results], object]
) -> None:
    with Fleet(server, tmp_path) as fleet:
        results = fleet.broker.results()
        results.prepare()
        server.admin.delete(KEY + "results")
        added = 0
        if added_to:
            added += bool(
                server.admin.xadd(KEY + "results", {"a": "b"})
            )  # as a worker does, which knows nothing of the group
        ask(results)
        found = results.read(count=10)  # this makes the stream and its group if they do not exist
        added += bool(server.admin.xadd(KEY + "results", {"c": "d"}))
        found += results.read(count=10)
        assert len(found) == added
        results.acknowledge([entry.id for entry in found])


JOBS: dict[str, dict[str, str | bytes]] = {
    "without data": {"status": "queued"},
    "with bad dates": {"created_at": "yesterday", "enqueued_at": "x" * 1000, "data": "x"},
    "with a huge payload": {"created_at": "2026-01-01T00:00:00Z", "data": b"x" * 5_000_000},
    "with a payload that is no JSON": {"created_at": "2026-01-01T00:00:00Z", "data": b"\xff\x00"},
    "with a payload nested deeply": {"created_at": "2026-01-01T00:00:00Z", "data": b"[" * 9_000},
    "with a timeout that is none": {"created_at": "2026-01-01T00:00:00Z", "data": "[]", "timeout": "soon"},
    "with webhooks": {
        "created_at": "2026-01-01T00:00:00Z", "data": b'["os.system", null, ["touch forged"], {}]',
        "webhooks": '[{"url":"http://127.0.0.1:9/"}]', "success_callback_name": "os.system",
        "failure_callback_name": "os.system", "stopped_callback_name": "os.system", "repeats_left": "9",
    },
}  # fmt: skip


def test_forged_jobs_are_refused_in_one_line_each(house: House, tmp_path: Path) -> None:
    for number, what in enumerate(JOBS):
        for job_id in (f"{number:032x}", f"forged-{number}"):
            fields: Any = JOBS[what]
            house.admin.hset(f"rq:job:{job_id}", mapping=fields)
            house.admin.rpush("rq:queue:mb:letters", job_id)
    wait_until(lambda: house.admin.llen("rq:queue:mb:letters") == 0)
    house.assert_all_well()
    assert not (tmp_path / "forged").exists()
    lines = [line for line in house.worker.lines if "is not a batch's job, and is refused" in line]
    # RQ skips a job without data.
    assert len(lines) == 2 * (len(JOBS) - 1), house.worker.output


def test_invalid_job_ids_do_no_harm(house: House) -> None:
    house.admin.rpush("rq:queue:mb:letters", b"\xff\xfe", b"", b"a\nb", b"x" * 100_000)
    house.assert_all_well()


def test_invalid_ids_in_rqs_registries_do_not_end_a_worker(house: House) -> None:
    for registry in ("wip", "finished", "failed", "ready", "scheduled"):
        house.admin.zadd(f"rq:{registry}:letters", {b"\xff": 1})
    house.admin.rpush("rq:queue:mb:letters:intermediate", b"\xff")
    house.admin.sadd("rq:groups", b"\xff")
    house.admin.sadd("rq:workers", b"\xff")
    worker = house.fleet.worker()  # a worker cleans up the registries when it starts
    worker.wait_for_line("letters: RQ's registries can't be tidied up: UnicodeDecodeError")
    house.worker.end()
    house.worker = worker
    house.assert_all_well()


def test_a_job_that_is_no_hash_harms_nobody(house: House) -> None:
    house.admin.set("rq:job:" + "0" * 32, "hostile")
    house.admin.rpush("rq:queue:mb:letters", "0" * 32)
    house.assert_all_well()


def test_invalid_rq_commands_do_not_end_a_worker(house: House) -> None:
    workers: Any = house.admin.smembers("rq:workers")
    channel = workers.pop().replace(b"rq:worker:", b"rq:pubsub:")
    commands = (b"\xff", "{", "[1]", "{}", "[" * 100_000)
    for command in commands:
        house.admin.publish(channel, command)
    told = "letters: a command to this worker can't be followed: "
    wait_until(lambda: sum(told in line for line in house.worker.lines) == len(commands))
    house.assert_all_well()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a{b}", "../x", "-a", "x" * 101, "a\n", "é"])
@pytest.mark.parametrize("setting", ["name", "key_prefix"])
def test_a_name_that_would_make_other_keys_is_refused(setting: str, name: str) -> None:
    settings: dict[str, Any] = {"name": "letters", setting: name}
    with pytest.raises(ConfigError, match=setting):
        Config(**settings)
