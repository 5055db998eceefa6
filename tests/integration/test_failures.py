"""The failure path: retries with growing delays, then a dead batch with all that a person needs to know."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from microbatch.producer import BatchFailure
from tests.fleet import ECHO, Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

FAILS_FOR_C = """
def value(letter):
    return {"a": 1, "b": 2, "d": 4}[letter]

def process(batch):
    if "c" in batch:
        note("attempts", time.time())
    return sum(value(letter) for letter in batch)
"""

FAILS_TWICE = """
def process(batch, info: BatchInfo):
    note("attempts", info.attempt)
    if info.attempt <= 2:
        raise OSError("the disk is away")
    return batch
"""


@pytest.mark.leaves("dead", "batch")
def test_a_batch_that_fails_for_good(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    failures: list[BatchFailure] = []
    settings = {"max_size": 2, "max_retries": 2, "retry_delay": 0.2, "isolate_failures": False}
    with Fleet(server, tmp_path, FAILS_FOR_C, **settings) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append, failure_handler=failures.append)
        mb.record_events(list("abcdabba"))
        fleet.finish(mb)
        attempts = [float(line) for line in fleet.noted("attempts")]
        counters = fleet.broker.stats.counters()
    assert sorted(results) == [3, 3, 3]
    assert (counters.done_events, counters.dead_events) == (6, 2)

    (failure,) = failures
    assert failure.error == "KeyError: 'c'"
    assert failure.events == ["c", "d"]
    assert "app.py" in failure.traceback
    assert "in value" in failure.traceback
    assert "microbatch" not in failure.traceback
    assert (failure.batch.attempt, failure.batch.size, failure.batch.trigger) == (3, 2, "size")

    delays = [later - earlier for earlier, later in pairwise(attempts)]
    assert len(delays) == 2
    assert delays[0] >= 0.2 * 0.75
    assert delays[1] >= 0.4 * 0.75


@pytest.mark.leaves("dead", "batch")
def test_without_a_failure_handler_it_is_logged(
    server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Fleet(server, tmp_path, FAILS_FOR_C, max_retries=0) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher()
        mb.record_event("c")
        fleet.finish(mb)
        (batch_id,) = fleet.broker.server.do("ZRANGE", fleet.broker.keys.dead, 0, -1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    dead = batch_id.decode()
    assert record.getMessage() == (
        f"letters: batch {dead} is dead at attempt 1: KeyError; "
        f"`microbatch dead show letters {dead}` has the rest"
    )


@pytest.mark.leaves("dead", "batch")
def test_an_error_that_cannot_be_encoded_does_not_end_the_worker(server: RealServer, tmp_path: Path) -> None:
    failures: list[BatchFailure] = []
    source = """
def process(batch):
    note("workers", os.getpid())
    raise ValueError("no file \\udcff")
"""
    # Without time for retries, both events die although nothing else succeeds.
    settings = {"max_retries": 0, "retry_delay": 0, "retry_for": 0}
    with Fleet(server, tmp_path, source, max_size=1, **settings) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(failure_handler=failures.append)
        mb.record_events(list("ab"))
        fleet.finish(mb)
        assert len(set(fleet.noted("workers"))) == 1
        wait_until(lambda: len(FailedJobRegistry("mb:letters", server.admin).get_job_ids()) == 2)
    assert len(failures) == 2


def test_a_batch_that_fails_for_a_while(server: RealServer, tmp_path: Path) -> None:
    results: list[list[str]] = []
    with Fleet(server, tmp_path, FAILS_TWICE, retry_delay=0.05) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event("a")
        fleet.finish(mb)
        assert fleet.noted("attempts") == ["1", "2", "3"]
    assert results == [["a"]]


@pytest.mark.leaves("dead", "batch")
def test_an_event_of_the_wrong_type_is_found_in_its_batch(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    failures: list[BatchFailure] = []
    processor = "def process(batch: list[int]): return sum(batch)"
    with Fleet(server, tmp_path, processor, max_retries=0) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append, failure_handler=failures.append)
        mb.record_events([1, 2, "soon"])
        fleet.finish(mb)
    (failure,) = failures
    assert failure.error.startswith("DecodeError: the event at position 0 does not fit")
    assert failure.events == ["soon"]
    assert sum(results) == 3


def test_a_processor_that_returns_nothing_has_no_result(server: RealServer, tmp_path: Path) -> None:
    results: list[object] = []
    with Fleet(server, tmp_path, "def process(batch): note('ran', batch)") as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event("a")
        fleet.finish(mb)
        assert fleet.noted("ran") == ["['a']"]
        assert fleet.broker.stats.counters().done_events == 1
    assert results == []


def test_a_result_is_rebuilt_for_its_handler(server: RealServer, tmp_path: Path) -> None:
    results: list[set[int]] = []

    def handle(result: set[int]) -> None:
        results.append(result)

    with Fleet(server, tmp_path, ECHO) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handle)
        mb.record_events([1, 1, 2])
        fleet.finish(mb)
    assert results == [{1, 2}]


@pytest.mark.leaves("dead", "batch")
def test_what_is_dead_is_among_the_failed_jobs(server: RealServer, tmp_path: Path) -> None:
    processor = """
from microbatch.worker import PartialFailure

def process(batch):
    raise PartialFailure({i: ValueError("odd") for i, n in enumerate(batch) if n % 2}, result=len(batch))
"""
    with Fleet(server, tmp_path, processor, max_retries=0) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher()
        mb.record_events([1, 2, 3])
        fleet.finish(mb)
        (dead,) = fleet.broker.dead
        wait_until(lambda: dead.id in FailedJobRegistry("mb:letters", server.admin).get_job_ids())
        job = Job.fetch(dead.id, connection=server.admin, serializer=JSONSerializer)
        result = wait_until(job.latest_result, message="what RQ says of it")
        kept_until = FailedJobRegistry("mb:letters", server.admin).get_expiration_time(job)
    assert job.description == "letters: a part of a batch, 2 of its events"
    assert result is not None
    assert "ValueError: odd" in str(result.exc_string)
    assert timedelta(days=6, hours=23) < kept_until - datetime.now(UTC) <= timedelta(days=7)


def test_results_and_failures_that_are_discarded_take_no_memory(server: RealServer, tmp_path: Path) -> None:
    processor = (
        "def process(batch):\n"
        "    if batch[0] == 'bad': raise ValueError('x' * 10_000)\n"
        "    if batch[0] == 'half': raise PartialFailure({1: 'no'}, result='r' * 100_000)\n"
        "    return 'r' * 100_000\n"
    ).replace("PartialFailure", "__import__('microbatch.producer').producer.PartialFailure")
    settings = {"max_size": 2, "max_retries": 0, "isolate_failures": False, "results": "discard"}
    with Fleet(server, tmp_path, processor, **settings) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher()
        mb.record_events(["good", "good"])
        fleet.finish(mb)
        before = server.admin.info("memory")["used_memory"]
        mb = fleet.batcher()
        mb.record_events(["good", "good"] * 100)  # 10 MB of results
        fleet.finish(mb)
        assert server.admin.info("memory")["used_memory"] - before < 2_000_000
        mb = fleet.batcher()
        mb.record_events(["bad", "bad", "half", "half"])
        fleet.finish(mb)
        assert server.admin.xlen(fleet.broker.keys.results) == 0
        if server.admin.exists(fleet.broker.keys.results):
            assert server.admin.xinfo_stream(fleet.broker.keys.results)["entries-added"] == 0
        assert sorted(batch.failure.error[:10] for batch in fleet.broker.dead) == ["ValueError", "no"]
        assert fleet.broker.stats.counters().dead_events == 3
        for batch in list(fleet.broker.dead):
            fleet.broker.dead.purge(batch.id)
