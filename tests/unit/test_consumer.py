"""The whole path without waiting: record, stop, cut, run, and then the handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from microbatch.broker.errors import ConfigError, InDoubt, Unavailable
from microbatch.broker.state.dead import Dead
from microbatch.broker.state.results import Entry, Results
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.request import Steps
from microbatch.broker.transport.verb import verb
from microbatch.broker.wire.batch import moment
from microbatch.broker.wire.header import Trigger
from microbatch.producer import BatchFailure, BatchInfo, MicroBatcher
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualClock, ManualTicker, ManualWakeListener
from tests.times import hurry
from tests.unit.conftest import MakeBroker
from tests.unit.steps import RECORDED_AT_MS, FakeClient, check_account, outcomes


@dataclass
class Report:
    total: int


def total(batch: list[int]) -> Report | None:
    if 13 in batch:
        raise ValueError("thirteen")
    return Report(sum(batch)) if sum(batch) else None


class Path:
    """A batcher with batches of three, which this thread cuts and runs."""

    def __init__(self, make_broker: MakeBroker, clock: ManualClock, **handlers: Any) -> None:
        settings = {"batch_processor": total, "max_size": 3, "max_retries": 0, **handlers}
        self.broker = make_broker(isolate_failures=False, **settings)
        self.batcher = MicroBatcher(self.broker.config, broker=self.broker)
        self._listener = ManualWakeListener()
        self._scheduler = Scheduler(
            self.broker.config,
            broker=self.broker,
            clock=clock,
            ticker=ManualTicker(),
            listener=self._listener,
        )
        self._runner = BatchRunner(self.broker.config, broker=self.broker)

    def cut_and_run(self) -> None:
        self.broker.server.client.delete(self.broker.keys.wake)  # the manual listener does not remove it
        self._listener.wake(Wake.FLUSH)
        self._scheduler.run_once()
        queued: Any = self.broker.server.client.lrange("rq:queue:mb:letters", 0, -1)
        for batch_id in queued:
            self._runner.run(batch_id.decode())
        check_account(self.broker)

    def record_and_stop(self, *events: object) -> None:
        self.batcher.record_events(events)
        self.batcher.stop()
        self.cut_and_run()


@pytest.fixture
def make_path(make_broker: MakeBroker, clock: ManualClock) -> Callable[..., Path]:
    def make(**handlers: Any) -> Path:
        return Path(make_broker, clock, **handlers)

    return make


MakePath = Callable[..., Path]


def test_results_are_handled_in_the_thread_that_waits(make_path: MakePath) -> None:
    handled: list[tuple[Report, threading.Thread]] = []

    def show(result: Report) -> None:
        handled.append((result, threading.current_thread()))

    path = make_path(result_handler=show)
    path.record_and_stop(1, 2, 4, 8)
    assert path.batcher.wait_for_results()
    assert handled == [(Report(7), threading.current_thread()), (Report(8), threading.current_thread())]


def test_nothing_is_left_but_what_is_permanent(make_path: MakePath, client: FakeClient) -> None:
    path = make_path()
    path.record_and_stop(1, 2, 4, 8)
    assert path.batcher.wait_for_results()
    path.batcher.close()
    lasting = [key.decode() for key in client.scan_iter("mb:*") if client.ttl(key) == -1]
    assert sorted(lasting) == [f"mb:{{letters}}:{part}" for part in ("config", "flushes", "results", "stats")]
    assert client.xlen(path.broker.keys.results) == 0
    assert client.xinfo_consumers(path.broker.keys.results, "handlers") == []


def test_a_handler_that_asks_is_given_the_batch(make_path: MakePath, clock: ManualClock) -> None:
    seen: list[BatchInfo] = []
    path = make_path(result_handler=lambda _result, batch: seen.append(batch))
    path.record_and_stop(1, 2)
    path.batcher.wait_for_results()
    (info,) = seen
    assert (info.batcher, info.trigger, info.size, info.attempt) == ("letters", Trigger.FLUSH, 2, 1)
    assert info.cut_at == moment(clock.ms)
    assert info.recorded_at > moment(RECORDED_AT_MS)


def test_a_batch_without_a_result_calls_no_handler(make_path: MakePath) -> None:
    handled: list[object] = []
    path = make_path(result_handler=handled.append)
    path.record_and_stop(0, 0)
    assert path.batcher.wait_for_results()
    assert handled == []


class Collection(list[object]):
    def run(self, result: object) -> None:
        self.append(result)


def test_a_handler_that_is_empty_is_still_a_handler(make_path: MakePath) -> None:
    handled = Collection()
    path = make_path(result_handler=handled)
    path.record_and_stop(1, 2)
    assert path.batcher.wait_for_results()
    assert handled == [{"total": 3}]


def test_an_async_handler_is_run_to_its_end(make_path: MakePath) -> None:
    handled: list[Report] = []

    async def show(result: Report) -> None:
        handled.append(result)

    path = make_path(result_handler=show)
    path.record_and_stop(5)
    path.batcher.wait_for_results()
    assert handled == [Report(5)]


def test_a_result_whose_handler_raises_is_delivered_again(make_path: MakePath) -> None:
    handled: list[int] = []

    def show(result: Report) -> None:
        handled.append(result.total)
        if len(handled) == 2:
            raise RuntimeError("no paper")

    path = make_path(result_handler=show)
    path.record_and_stop(*range(1, 10))
    with pytest.raises(RuntimeError, match="no paper"):
        path.batcher.wait_for_results()
    assert handled == [6, 15]
    assert path.batcher.wait_for_results()
    assert handled == [6, 15, 15, 24]


def test_what_was_handled_before_a_handler_raises_does_not_come_again(make_path: MakePath) -> None:
    seen: list[int] = []

    def handler(report: Report) -> None:
        seen.append(report.total)
        if seen == [3, 12]:
            raise ValueError("once")

    path = make_path(result_handler=handler)
    path.record_and_stop(0, 1, 2, 3, 4, 5, 6, 7, 8)
    with pytest.raises(ValueError, match="once"):
        path.batcher.wait_for_results(5)
    assert path.broker.unhandled.count() == 2
    assert path.batcher.wait_for_results(5)
    assert seen == [3, 12, 12, 21]


def test_a_slow_handler_has_each_result_acknowledged_as_it_is_handled(
    make_path: MakePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the consumer is killed, only the result in hand comes again, and none before it."""
    hurry(monkeypatch, acknowledge_seconds=0.0)
    left: list[int] = []

    def handler(_report: Report) -> None:
        left.append(path.broker.unhandled.count())

    path = make_path(result_handler=handler)
    path.record_and_stop(0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert path.batcher.wait_for_results(5)
    assert left == [3, 2, 1]


def test_a_dead_batch_is_given_to_the_failure_handler(make_path: MakePath) -> None:
    failures: list[BatchFailure] = []
    results: list[object] = []
    path = make_path(failure_handler=failures.append, result_handler=results.append)
    path.record_and_stop(1, 13, 5)
    assert path.batcher.wait_for_results()
    (failure,) = failures
    assert failure.error == "ValueError: thirteen"
    assert failure.traceback.endswith("ValueError: thirteen\n")
    assert failure.events == [1, 13, 5]
    assert (failure.batch.size, failure.batch.attempt) == (3, 1)
    assert results == []
    assert len(path.broker.dead.events(failure.batch.id)) == 3  # they are kept


def test_without_a_failure_handler_it_is_logged(
    make_path: MakePath, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_path()
    path.record_and_stop(13)
    caplog.clear()
    assert path.batcher.wait_for_results()
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "letters: batch " in line.getMessage()
    assert "is dead at attempt 1: ValueError; `microbatch dead show letters" in line.getMessage()
    assert "thirteen" not in line.getMessage()


def test_invalid_events_are_shown_as_they_are(make_path: MakePath, client: FakeClient) -> None:
    failures: list[BatchFailure] = []
    path = make_path(failure_handler=failures.append)
    client.rpush(path.broker.keys.events, b"by hand \xff")
    path.record_and_stop()
    path.batcher.wait_for_results()
    assert failures[0].events == ["by hand \\xff"]


def test_a_dead_batch_that_was_purged_is_told_without_its_events(
    make_path: MakePath, client: FakeClient
) -> None:
    failures: list[BatchFailure] = []
    path = make_path(failure_handler=failures.append)
    path.record_and_stop(13)
    client.delete(path.broker.keys.dead)
    path.batcher.wait_for_results()
    assert failures[0].events == []


def test_a_dead_batchs_events_are_asked_for_until_the_server_answers(
    make_path: MakePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BatchFailure] = []
    path = make_path(failure_handler=seen.append)
    path.record_and_stop(1, 13)
    read, errors = Dead.events, [InDoubt("lost")]

    def lose_a_reply(dead: Dead, batch_id: str) -> Steps[list[bytes]]:
        if errors:
            raise errors.pop()
        return (yield from read.ask(dead, batch_id))

    monkeypatch.setattr(Dead, "events", verb(lose_a_reply))
    assert path.batcher.wait_for_results(5)
    assert [failure.events for failure in seen] == [[1, 13]]


def test_a_server_that_is_away_from_the_first_wait_on_is_waited_for_and_told_once(
    make_path: MakePath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    path = make_path(result_handler=seen.append)
    path.record_and_stop(1, 2)

    def away(_results: Results) -> Steps[None]:
        yield from ()
        raise Unavailable("no server answers")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Results, "prepare", verb(away))
        for _ in range(3):
            assert not path.batcher.wait_for_results(0.01)
    assert path.batcher.wait_for_results(5)
    assert seen == [{"total": 3}]
    assert caplog.text.count("no server answers; trying again until it answers") == 1
    assert caplog.text.count("letters: the server answers again") == 1


def test_an_entry_that_is_no_result_is_quarantined_and_told(
    make_path: MakePath, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[Any] = []
    path = make_path(result_handler=handled.append)
    client.xadd(path.broker.keys.results, {"by": "hand"})
    path.record_and_stop(5)
    assert path.batcher.wait_for_results()
    assert handled == [{"total": 5}]
    assert (
        "is quarantined as mb:{letters}:quarantine:results: an entry on the results stream is not of"
        in caplog.text
    )
    (kept,) = client.lrange(path.broker.keys.quarantine("results"), 0, -1)
    assert b"{b'by': b'hand'}" in kept


def test_an_entry_is_quarantined_when_the_server_answers_again(
    make_path: MakePath, client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply is lost, and the entry is not delivered again."""
    quarantine = Results.quarantine
    lost: list[str] = []

    def lose_a_reply(results: Results, entry: Entry) -> Steps[str]:
        place = yield from quarantine.ask(results, entry)
        if not lost:
            lost.append(place)
            raise InDoubt("no reply")
        return place

    monkeypatch.setattr(Results, "quarantine", verb(lose_a_reply))
    path = make_path()
    client.xadd(path.broker.keys.results, {"by": "hand"})
    path.record_and_stop(5)
    assert path.batcher.wait_for_results()
    assert client.llen(lost[0]) == 1
    assert "may have been quarantined: an entry on the results stream is not of" in caplog.text


def never(result: list[int]) -> None:
    raise AssertionError("not called")


def test_a_result_that_does_not_fit_its_handler_is_quarantined_and_the_next_is_handled(
    make_path: MakePath, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[int] = []

    def show(result: int) -> None:
        handled.append(result)

    path = make_path(result_handler=show, batch_processor=lambda batch: batch[0])
    path.record_and_stop("five", 0, 0, 7)
    (misfit, _) = outcomes(path.broker)
    caplog.clear()
    assert path.batcher.wait_for_results()
    assert handled == [7]
    place = path.broker.keys.quarantine("results")
    (kept,) = client.lrange(place, 0, -1)
    assert misfit.batch_id.encode() in kept
    assert b'"five"' in kept
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"the result of batch {misfit.batch_id} (entry " in line
    assert f"is quarantined as {place}: the result does not fit (int_parsing)" in line
    assert "five" not in line


def test_a_result_that_does_not_fit_its_handler_goes_to_the_failure_handler(
    make_path: MakePath, client: FakeClient
) -> None:
    failures: list[BatchFailure] = []
    path = make_path(result_handler=never, failure_handler=failures.append)
    path.record_and_stop(5)
    (misfit,) = outcomes(path.broker)
    assert path.batcher.wait_for_results()
    (failure,) = failures
    assert failure.batch.id == misfit.batch_id
    assert failure.error == "DecodeError: the result does not fit: Input should be a valid array"
    assert (failure.result, failure.events, failure.traceback) == ({"total": 5}, [], "")
    assert client.xlen(path.broker.keys.results) == 0
    assert not client.exists(path.broker.keys.quarantine("results"))


def test_a_result_that_is_no_json_is_quarantined_whatever_handlers_there_are(
    make_path: MakePath, client: FakeClient
) -> None:
    failures: list[BatchFailure] = []
    path = make_path(result_handler=never, failure_handler=failures.append)
    path.record_and_stop(5)
    ((_, fields),) = client.xrange(path.broker.keys.results)
    client.delete(path.broker.keys.results)
    client.xadd(path.broker.keys.results, {**fields, b"result": b"{"})
    assert path.batcher.wait_for_results()
    assert failures == []
    assert client.llen(path.broker.keys.quarantine("results")) == 1


def test_the_results_of_a_silent_consumer_are_taken_over(make_path: MakePath) -> None:
    handled: list[Any] = []
    path = make_path(result_handler=handled.append, claim_after=1)
    silent = path.broker.results()
    silent.prepare()
    path.record_and_stop(5)
    (entry,) = silent.read(count=10)
    client: Any = path.broker.server.client
    client.xclaim(
        path.broker.keys.results, "handlers", silent.consumer, 0, [entry.id], idle=5_000, justid=True
    )
    assert path.batcher.wait_for_results()
    assert handled == [{"total": 5}]


def test_consumers_that_are_gone_are_forgotten(
    make_path: MakePath, client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("microbatch.producer.member._FORGET_AFTER", 0)
    caplog.set_level("INFO")
    path = make_path(claim_after=1)
    gone = path.broker.results()
    gone.prepare()
    assert gone.read(count=1) == []
    path.record_and_stop(5)
    assert path.batcher.wait_for_results()
    path.batcher.close()
    assert client.xinfo_consumers(path.broker.keys.results, "handlers") == []
    assert "letters: 1 consumers are gone, and forgotten" in caplog.text


@pytest.mark.parametrize("setting", ["result_handler", "failure_handler"])
def test_a_handler_that_cannot_be_called_is_refused_at_once(make_path: MakePath, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} takes 0 parameters"):
        make_path(**{setting: lambda: None})
