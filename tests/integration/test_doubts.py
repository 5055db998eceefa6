"""A claim whose reply was lost: the worker finds out what it was given, and runs it or gives it back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rq.exceptions import StopRequested

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt, Refused
from microbatch.broker.lua import scripts
from microbatch.broker.state.due import queued
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer import BatchInfo, Config, MicroBatcher
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.rq.worker import BatchWorker
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualTicker, Notes
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.times import retime
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("inflight", "batch", "results", "wake")

END = (scripts.COMMIT.sha, scripts.CLAIM_NEXT.sha)
QUEUE = "rq:queue:mb:letters"


class Line:
    """One worker in this process, turn by turn and behind a proxy. Each batch has one event."""

    def __init__(self, server: RealServer, proxy: Proxy) -> None:
        self.server = server
        self.runs: list[tuple[int, int]] = []
        """The event and the attempt of each run."""
        self.direct = Broker(Config(name="letters", redis_url=server.url, max_size=1))
        config = self.direct.config.model_copy(
            update={"redis_url": proxy.url, "batch_processor": self._process, "max_retries": 0}
        )
        self.notes = Notes()
        self.broker = Broker(config, observer=self.notes)
        self.runner = BatchRunner(config, broker=self.broker)
        for script in vars(scripts).values():
            if isinstance(script, scripts.Script):
                server.admin.script_load(script.text)
        self.worker = BatchWorker(self.runner, self.broker.server)
        self.worker._chores_at = float("inf")

    def _process(self, batch: list[int], info: BatchInfo) -> int:
        self.runs.append((batch[0], info.attempt))
        return batch[0]

    def record_and_cut(self, *events: int) -> None:
        MicroBatcher(self.direct.config, broker=self.direct).record_events(events)
        Scheduler(self.direct.config, broker=self.direct, ticker=ManualTicker()).run_once()

    def results(self) -> list[tuple[bytes | None, int]]:
        """The result and the attempt of each batch that is done."""
        entries: Any = self.server.admin.xrange(self.direct.keys.results)
        outcomes = [Outcome.decode(fields) for _, fields in entries]
        return [(outcome.result, outcome.attempt) for outcome in outcomes]

    def record_of(self, batch_id: str) -> RunRecord:
        raw: Any = self.server.admin.lindex(self.direct.keys.batch(batch_id), 1)
        return RunRecord.decode(raw)

    def close(self) -> None:
        self.broker.close()
        self.direct.close()


@pytest.fixture
def proxy(valkey_server: RealServer) -> Iterator[Proxy]:
    with Proxy(valkey_server) as proxy:
        yield proxy


@pytest.fixture
def line(valkey_server: RealServer, proxy: Proxy) -> Iterator[Line]:
    line = Line(valkey_server, proxy)
    yield line
    line.close()


def test_what_was_claimed_with_a_commit_is_run(line: Line, proxy: Proxy) -> None:
    line.record_and_cut(1, 2, 3)
    proxy.eat_reply_to(*END)
    line.worker._take_turns()
    assert proxy.eaten.is_set()
    line.worker._take_turns()
    assert sorted(line.runs) == [(1, 1), (2, 1), (3, 1)]
    assert sorted(line.results()) == [(b"1", 1), (b"2", 1), (b"3", 1)]


def test_the_observer_is_told_of_each_turn(line: Line) -> None:
    line.record_and_cut(1, 2, 3)
    line.worker._take_turns()
    assert line.notes.changes == ["claimed", "committed"] * 3
    claimed, committed = line.notes.all("claimed"), line.notes.all("committed")
    assert [facts["run"] for facts in claimed] == [facts["run"] for facts in committed]
    assert len({facts["run"].id for facts in claimed}) == 3


def test_the_observer_is_told_of_what_was_claimed_in_doubt(line: Line, proxy: Proxy) -> None:
    """Each claim is reported once. The commit whose reply was lost is not reported."""
    line.record_and_cut(1, 2, 3)
    proxy.eat_reply_to(*END)
    line.worker._take_turns()
    line.worker._take_turns()
    assert line.notes.changes == ["claimed", "claimed", "committed", "claimed", "committed"]
    assert len({facts["run"].id for facts in line.notes.all("claimed")}) == 3


def test_a_repeated_commit_claims_no_second_batch(line: Line, proxy: Proxy) -> None:
    """Nobody would send heartbeats for the first batch, and it would count as one whose worker died."""
    line.record_and_cut(1, 2, 3)
    proxy.eat_reply_to(*END)
    line.worker._take_turns()
    owners = [line.record_of(batch_id).owner for batch_id in line.direct.ledger.in_flight()]
    assert len([owner for owner in owners if owner]) == 1
    assert line.runs == [(1, 1)]
    line.worker._take_turns()
    assert sorted(line.runs) == [(1, 1), (2, 1), (3, 1)]


def test_what_was_claimed_while_it_was_waited_for_is_run(line: Line, proxy: Proxy) -> None:
    line.record_and_cut(1)
    proxy.eat_reply_to("BLMOVE")
    with pytest.raises(InDoubt):
        line.worker._take_turns()
    line.worker._take_turns()
    assert line.results() == [(b"1", 1)]
    assert line.runs == [(1, 1)]


def test_what_was_claimed_for_a_job_is_run(line: Line, proxy: Proxy) -> None:
    """A stock RQ worker does the same."""
    line.record_and_cut(1)
    (batch_id,) = line.direct.ledger.in_flight()
    proxy.eat_reply_to(scripts.CLAIM.sha)
    assert line.runner.run(batch_id).text == "done"
    assert proxy.eaten.is_set()
    assert line.results() == [(b"1", 1)]
    line.server.admin.delete(QUEUE)


def test_what_was_claimed_beside_a_refused_commit_is_run(line: Line) -> None:
    line.record_and_cut(1, 2)
    line.server.admin.set(line.direct.keys.results, "not a stream")
    with pytest.raises(Refused):
        line.worker._take_turns()
    line.server.admin.delete(line.direct.keys.results)
    line.worker._take_turns()
    assert line.results() == [(b"2", 1)]
    # The batch that could not be committed waits for a worker, as if it had not run.
    (first,) = line.direct.ledger.in_flight()
    assert line.record_of(first) == RunRecord()


def test_a_worker_that_stops_in_doubt_gives_back_what_it_was_given(line: Line, proxy: Proxy) -> None:
    line.record_and_cut(1, 2)
    first = line.server.admin.lindex(QUEUE, 0)
    proxy.eat_reply_to("BLMOVE")
    with pytest.raises(InDoubt):
        line.worker._take_turns()
    assert line.server.admin.llen(QUEUE) == 1
    line.worker._stop_requested = True
    with pytest.raises(StopRequested):
        line.worker.dequeue_job_and_maintain_ttl(None)
    assert line.runs == []
    assert line.server.admin.lindex(QUEUE, 0) == first
    assert [line.record_of(batch_id) for batch_id in line.direct.ledger.in_flight()] == 2 * [RunRecord()]


def test_what_was_claimed_beside_a_refused_commit_is_given_back_at_a_stop(line: Line) -> None:
    line.record_and_cut(1, 2)
    line.server.admin.set(line.direct.keys.results, "not a stream")
    second = line.server.admin.lindex(QUEUE, 1)
    with pytest.raises(Refused):
        line.worker._take_turns()
    line.server.admin.delete(line.direct.keys.results)
    line.worker._stop_requested = True
    with pytest.raises(StopRequested):
        line.worker.dequeue_job_and_maintain_ttl(None)
    assert line.server.admin.lrange(QUEUE, 0, -1) == [second]
    assert [line.record_of(batch_id) for batch_id in line.direct.ledger.in_flight()] == 2 * [RunRecord()]


@pytest.mark.parametrize("by", ["turn", "job"])
def test_what_was_claimed_and_cannot_be_read_is_left_to_the_scheduler_at_once(line: Line, by: str) -> None:
    line.record_and_cut(1)
    (batch_id,) = line.direct.ledger.in_flight()
    line.server.admin.lset(line.direct.keys.batch(batch_id), 0, '{"v":2}')
    if by == "turn":
        assert line.worker._take_turns() is not None  # RQ's own code for a job that is not for us
    else:
        with pytest.raises(Exception, match="version"):
            line.runner.run(batch_id)
        line.server.admin.delete(QUEUE)
    assert line.record_of(batch_id) == RunRecord()
    score = line.server.admin.zscore(line.direct.keys.inflight, batch_id)
    assert score is not None
    assert queued(0) <= score <= queued(line.runner.broker.clock.now_ms())
    line.server.admin.delete(f"{QUEUE}:intermediate")


def test_a_doubt_ends_when_its_claim_has_run_out(line: Line) -> None:
    """Nothing was claimed: the worker asks the server only for as long as the claim may be on its way."""
    retime(line.runner.broker, run_ttl_ms=100)
    line.runner.doubts.add(line.runner.new_claim())
    wait_until(lambda: not (line.runner.doubts.next() or line.runner.doubts._claims))
