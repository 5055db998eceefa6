"""`submit`: each event's own result comes back to its caller, once, or an error that says what is known."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.errors import (
    AlreadyRecorded,
    BatcherFull,
    Closed,
    ConfigError,
    EncodeError,
    EventExpired,
    EventFailed,
    RefusedForNow,
    ReplyLost,
    Stopped,
    TooManyPending,
    Unavailable,
)
from microbatch.broker.inspect.audit import Audit
from microbatch.producer import MicroBatcher
from microbatch.worker.runner import BatchRunner
from tests.conftest import MakeServer
from tests.fleet import HASTY, Fleet
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.times import hurry
from tests.unit.steps import account_of
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("events", "wake", "seen")

NEGATIVE = "def process(batch): return [-event for event in batch]"
LONG = 60


@contextmanager
def fleet_of(server: RealServer, folder: Path, processor: str = NEGATIVE, **settings: Any) -> Iterator[Fleet]:
    with Fleet(server, folder, processor, **{"per_event": True, "frequency": 20, **settings}) as fleet:
        yield fleet


@pytest.fixture
def fleet(valkey_server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(valkey_server, tmp_path) as fleet:
        yield fleet


def work(fleet: Fleet, workers: int = 1) -> None:
    fleet.scheduler()
    for _ in range(workers):
        fleet.worker()


def reply_keys(fleet: Fleet) -> list[bytes]:
    keys: list[bytes] = fleet.broker.server.do("KEYS", fleet.broker.keys.reply("*"))
    return keys


def sent(fleet: Fleet, events: int) -> None:
    """Wait until so many events wait at the server."""
    wait_until(lambda: fleet.broker.events.waiting() == events, message=fleet.state)


def _note(names: list[str], name: str, _future: Future[Any]) -> None:
    names.append(name)


def error_of(future: Future[Any], timeout: float = LONG) -> BaseException | None:
    """The error of a future. Raises if there is no outcome in time."""
    wait([future], timeout)
    assert future.done(), "the future is still pending"
    return future.exception()


# Results.


def test_each_of_a_thousand_futures_from_eight_threads_gets_its_own_result(
    server: RealServer, tmp_path: Path
) -> None:
    with fleet_of(server, tmp_path) as fleet:
        work(fleet, 2)
        mb = fleet.batcher()

        def submit(thread: int) -> list[tuple[int, Any]]:
            numbers = range(thread * 125, (thread + 1) * 125)
            futures = [(number, mb.submit(number)) for number in numbers]
            return [(number, future.result(LONG)) for number, future in futures]

        with ThreadPoolExecutor(8) as threads:
            found = [pair for pairs in threads.map(submit, range(8)) for pair in pairs]
        assert found == [(number, -number) for number in range(1_000)]
        names = [thread.name for thread in threading.enumerate()]
        assert (names.count("letters replies"), names.count("letters submits")) == (1, 1)
        wait_until(lambda: fleet.broker.stats.counters().done_events == 1_000, message=fleet.state)


def test_thirty_thousand_events_through_map(fleet: Fleet) -> None:
    work(fleet, 2)
    mb = fleet.batcher(max_size=1_000)
    assert list(mb.map(range(30_000))) == [-number for number in range(30_000)]
    assert threading.active_count() < 20


def test_map_ends_with_the_first_error(fleet: Fleet) -> None:
    with fleet_of_failing(fleet) as mb:
        results = mb.map([1, 2, "bad", 4])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(EventFailed, match="ValueError: no") as failed:
            next(results)
        assert failed.value.attempts == 1
        assert "ValueError" in failed.value.traceback


FAILING = """
def process(batch):
    return [ValueError("no") if event == "bad" else event for event in batch]
"""


@contextmanager
def fleet_of_failing(fleet: Fleet) -> Iterator[MicroBatcher]:
    (fleet.folder / "app.py").write_text(
        f"from microbatch.producer import Config\n{FAILING}\nconfig = Config(batch_processor=process)\n"
    )
    fleet.scheduler(max_retries=0)
    fleet.worker(max_retries=0)
    yield fleet.batcher()
    fleet.broker.dead.purge(next(iter(fleet.broker.dead)).id)


def test_asyncio_awaits_a_future(fleet: Fleet) -> None:
    work(fleet)
    mb = fleet.batcher()

    async def ask() -> list[Any]:
        return await asyncio.gather(*(asyncio.wrap_future(mb.submit(number)) for number in range(50)))

    assert asyncio.run(ask()) == [-number for number in range(50)]


def test_many_batchers_of_one_process_get_their_own_results(fleet: Fleet) -> None:
    work(fleet)
    batchers = [fleet.batcher() for _ in range(8)]
    futures = [(n, batchers[n % 8].submit(n)) for n in range(400)]
    assert all(future.result(LONG) == -n for n, future in futures)
    assert len(reply_keys(fleet)) == 8
    for mb in batchers:
        mb.close()
    assert reply_keys(fleet) == []


def test_a_worker_that_is_killed_between_its_run_and_its_commit_replies_once(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """The result of the first run kills the process while it is encoded for the commit."""
    processor = f"""{HASTY}
import signal
from pydantic import BaseModel, model_serializer

class Bomb(BaseModel):
    @model_serializer
    def explode(self):
        note("killed", os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)

def process(batch, info: BatchInfo):
    return [Bomb() for _ in batch] if info.attempt == 1 else [-event for event in batch]
"""
    settings = {"lease_ttl": 0.5, "max_size": 10}
    with fleet_of(valkey_server, tmp_path, processor, **settings) as fleet:
        scheduler = fleet.scheduler_process()
        scheduler.wait_for_line("active")
        fleet.pool(2)
        mb = fleet.batcher()
        replied: list[Any] = []
        futures = mb.submit_many(range(1, 11))
        for future in futures:
            future.add_done_callback(lambda settled: replied.append(settled.result()))
        assert [future.result(LONG) for future in futures] == [-n for n in range(1, 11)]
        wait_until(lambda: len(replied) == 10)
        assert fleet.noted("killed")
        assert fleet.broker.stats.counters().done_events == 10


def test_events_whose_workers_die_of_them_are_dead_and_their_callers_know_it(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    processor = f"""{HASTY}
import signal

def process(batch):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    settings = {"lease_ttl": 0.5, "max_retries": 0, "isolate_failures": False}
    with fleet_of(valkey_server, tmp_path, processor, **settings) as fleet:
        fleet.scheduler_process()
        fleet.pool(1)
        mb = fleet.batcher()
        futures = mb.submit_many([1, 2, 3])
        errors = [error_of(future, 120) for future in futures]
        assert [type(error) for error in errors] == [EventFailed] * 3
        assert all("died or went silent" in str(error) for error in errors)
        for batch in list(fleet.broker.dead):
            fleet.broker.dead.purge(batch.id)


def test_after_a_stop_that_is_waited_for_every_submitted_event_is_settled(fleet: Fleet) -> None:
    work(fleet)
    mb = fleet.batcher(frequency=60_000)
    futures = mb.submit_many(range(3_210))
    mb.stop()
    assert mb.wait_for_results(LONG)
    assert account_of(fleet.broker).done == 3_210
    assert [future.result(LONG) for future in futures] == [-n for n in range(3_210)]
    assert list(Audit(fleet.broker).findings()) == []


# Cancelling and callbacks.


def test_futures_that_are_cancelled_in_flight_do_not_disturb_the_others(fleet: Fleet) -> None:
    mb = fleet.batcher(max_pending=200)
    futures = mb.submit_many(range(200))
    sent(fleet, 200)
    with pytest.raises(TooManyPending):
        mb.submit(-1)
    assert all(future.cancel() for future in futures[::2])
    assert all(future.cancel() for future in futures[::2])  # once more
    done, pending = wait(futures[::2], LONG)  # it waits for ever if nobody is told of the cancelling
    assert (len(done), len(pending)) == (100, 0)
    assert all(future.cancelled() for future in as_completed(futures[::2], LONG))
    more = mb.submit_many(range(200, 300))  # nobody waits for those that were cancelled
    work(fleet)
    assert [future.result(LONG) for future in futures[1::2]] == [-n for n in range(1, 200, 2)]
    assert [future.result(LONG) for future in more] == [-n for n in range(200, 300)]
    wait_until(lambda: fleet.broker.stats.counters().done_events == 300, message=fleet.state)
    assert not futures[1].cancel()


def test_callbacks_that_sleep_or_raise_hold_up_no_other_future(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    mb, go_on = fleet.batcher(), threading.Event()
    called: list[str] = []

    def hang(_future: Future[Any]) -> None:
        go_on.wait(LONG)
        called.append("late")

    def fail(_future: Future[Any]) -> None:
        called.append("failed")
        raise ValueError("the caller's secret")

    def leave(_future: Future[Any]) -> None:
        called.append("left")
        raise SystemExit

    slow = mb.submit_many(range(20))
    for future in slow:
        future.add_done_callback(hang)
    raising = mb.submit(20)
    raising.add_done_callback(fail)
    raising.add_done_callback(leave)
    plain = mb.submit_many(range(21, 30))
    work(fleet)
    assert [future.result(LONG) for future in [*slow, raising, *plain]] == [-n for n in range(30)]
    assert mb.submit(30).result(LONG) == -30
    go_on.set()
    wait_until(lambda: sorted(called) == ["failed", *["late"] * 20, "left"])
    assert "a callback of a future raised ValueError in fail" in caplog.text
    assert "secret" not in caplog.text


def test_a_callback_may_submit_and_close(fleet: Fleet) -> None:
    work(fleet)
    mb, results = fleet.batcher(), list[Any]()

    def again(settled: Future[Any]) -> None:
        results.append(mb.submit(settled.result() - 1).result(LONG))
        mb.close()
        results.append("closed")

    mb.submit(1).add_done_callback(again)
    wait_until(lambda: results == [2, "closed"])


# What is lost.


def test_a_server_that_has_lost_everything_is_noticed(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XREAD would block at the empty key for ever."""
    hurry(monkeypatch, reply_ttl_ms=4_000)
    with fleet_of(valkey_server, tmp_path) as fleet:
        mb = fleet.batcher()
        futures = mb.submit_many(range(10))
        sent(fleet, 10)
        valkey_server.admin.flushall()
        assert [type(error_of(future)) for future in futures] == [ReplyLost] * 10
        assert reply_keys(fleet) == []
        after = mb.submit(5)
        work(fleet)
        assert after.result(LONG) == -5


def put_text(server: RealServer, key: bytes) -> None:
    server.admin.set(key, "something else")


def delete(server: RealServer, key: bytes) -> None:
    server.admin.delete(key)


@pytest.mark.leaves("reply")
@pytest.mark.parametrize("harm", [delete, put_text])
def test_a_stream_that_is_gone_loses_its_replies_and_the_next_event_has_a_new_one(
    fleet: Fleet, valkey_server: RealServer, harm: Callable[[RealServer, bytes], None]
) -> None:
    mb = fleet.batcher()
    futures = mb.submit_many(range(10))
    sent(fleet, 10)
    (key,) = reply_keys(fleet)
    harm(valkey_server, key)
    assert [type(error_of(future)) for future in futures] == [ReplyLost] * 10
    after = mb.submit(5)
    work(fleet)
    assert after.result(LONG) == -5
    wait_until(lambda: fleet.broker.stats.counters().done_events == 11, message=fleet.state)


CLIENT = """
import sys
from microbatch.broker.app.config import Config
from microbatch.producer import start
from tests.times import hurry_for_good

hurry_for_good(reply_ttl_ms=1_500)
with start(Config(batch_processor=print)) as mb:
    future = mb.submit(1)
    mb._submitter.wait_sent()
    print("submitted", flush=True)
    print("told", type(future.exception()).__name__, flush=True)
    print("then", mb.submit(2).result(), flush=True)
"""


def test_a_client_that_was_frozen_for_too_long_knows_that_its_reply_is_lost(fleet: Fleet) -> None:
    client = fleet.run(CLIENT)
    client.wait_for_line("submitted")
    client.send(signal.SIGSTOP)
    wait_until(lambda: reply_keys(fleet) == [])
    work(fleet)
    wait_until(lambda: fleet.broker.stats.counters().done_events == 1, message=fleet.state)
    assert reply_keys(fleet) == []
    client.send(signal.SIGCONT)
    client.wait_for_line("told ReplyLost")
    client.wait_for_line("then -2")
    assert client.wait() == 0


def test_the_stream_of_a_killed_client_is_gone_after_a_while_and_not_made_again(fleet: Fleet) -> None:
    clients = [fleet.run(CLIENT) for _ in range(3)]
    for client in clients:
        client.wait_for_line("submitted")
        assert reply_keys(fleet)
        client.kill()
    wait_until(lambda: reply_keys(fleet) == [])
    work(fleet)
    wait_until(lambda: fleet.broker.stats.counters().done_events == 3, message=fleet.state)
    assert reply_keys(fleet) == []


# Doubts and outages.


@pytest.fixture
def proxied(valkey_server: RealServer, tmp_path: Path) -> Iterator[tuple[Fleet, Proxy]]:
    with Proxy(valkey_server) as proxy, fleet_of(valkey_server, tmp_path) as fleet:
        yield fleet, proxy


def test_a_doubt_about_the_recording_is_settled_by_the_reply(proxied: tuple[Fleet, Proxy]) -> None:
    fleet, proxy = proxied
    mb = fleet.batcher(redis_url=proxy.url)
    before = mb.submit(1)
    sent(fleet, 1)
    proxy.eat_reply_to("RPUSH", "events")
    future = mb.submit(2)
    assert proxy.eaten.wait(LONG)
    sent(fleet, 2)
    assert not future.done()
    work(fleet)
    assert (before.result(LONG), future.result(LONG)) == (-1, -2)


def test_an_event_whose_stream_may_not_exist_is_not_recorded(proxied: tuple[Fleet, Proxy]) -> None:
    """No reply would settle that doubt."""
    fleet, proxy = proxied
    proxy.eat_reply_to("XADD", "reply:")
    mb = fleet.batcher(redis_url=proxy.url)
    error = error_of(mb.submit(1))
    assert isinstance(error, Unavailable)
    assert str(error).startswith("no stream for replies could be made: ")
    assert fleet.broker.events.waiting() == 0
    after = mb.submit(2)
    work(fleet)
    assert after.result(LONG) == -2


def test_a_connection_that_was_forgotten_is_replaced(proxied: tuple[Fleet, Proxy]) -> None:
    fleet, proxy = proxied
    mb = fleet.batcher(redis_url=proxy.url)
    future = mb.submit(1)
    sent(fleet, 1)
    proxy.drop_links()
    work(fleet)
    assert future.result(LONG) == -1


def test_a_batcher_can_be_closed_while_its_connection_is_dead(
    proxied: tuple[Fleet, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, close_seconds=0.5)
    fleet, proxy = proxied
    mb = fleet.batcher(redis_url=proxy.url)
    future = mb.submit(1)
    sent(fleet, 1)
    proxy.drop_links()
    mb.close()
    assert isinstance(error_of(future), Closed)


def test_replies_come_when_the_server_is_back(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(appendonly=True)
    with fleet_of(server, tmp_path) as fleet:
        mb = fleet.batcher()
        futures = mb.submit_many(range(100))
        sent(fleet, 100)
        server.kill()
        refused = [error_of(future) for future in mb.submit_many(range(100, 150))]
        assert [type(error) for error in refused] == [Unavailable] * 50
        assert len(set(map(id, refused))) == 50  # each may be raised by another thread
        server.start()
        work(fleet)
        assert [future.result(LONG) for future in futures] == [-n for n in range(100)]
        assert mb.submit(101).result(LONG) == -101


def test_timeouts_are_on_time_while_the_server_does_not_answer(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """A connection waits for ten seconds for its reply."""
    server = make_server()
    with fleet_of(server, tmp_path) as fleet:
        mb = fleet.batcher()
        settled: list[str] = []
        names = {"last": 0.6, "first": 0.2, "never": None, "second": 0.4}
        futures = {name: mb.submit(name, timeout=seconds) for name, seconds in names.items()}
        for name, future in futures.items():
            future.add_done_callback(partial(_note, settled, name))
        sent(fleet, 4)
        server.pause()
        assert isinstance(error_of(futures["last"], 8), TimeoutError)
        wait_until(lambda: sorted(settled) == ["first", "last", "second"])
        for expires in (None, 30):
            while_paused = mb.submit("more", timeout=0.1, expires=expires)
            assert isinstance(error_of(while_paused, 8), TimeoutError)
        assert not futures["never"].done()
        server.resume()


def test_an_event_is_processed_although_its_caller_waits_no_longer(fleet: Fleet) -> None:
    mb = fleet.batcher()
    future = mb.submit(1, timeout=0.05)
    assert isinstance(error_of(future), TimeoutError)
    work(fleet)
    wait_until(lambda: fleet.broker.stats.counters().done_events == 1, message=fleet.state)
    assert mb.submit(2).result(LONG) == -2


def test_an_event_that_expired_before_its_cut_is_not_processed(fleet: Fleet) -> None:
    mb = fleet.batcher(result_handler=print)
    late, in_time = mb.submit(1, expires=0.05), mb.submit(2, expires=3_600)
    sent(fleet, 2)
    expired_ms = fleet.broker.clock.now_ms() + 50
    wait_until(lambda: fleet.broker.clock.now_ms() > expired_ms)
    work(fleet)
    assert isinstance(error_of(late), EventExpired)
    assert in_time.result(LONG) == -2
    account = account_of(fleet.broker)
    assert (account.done, account.expired, account.recorded) == (1, 1, 2)
    assert list(Audit(fleet.broker).findings()) == []


def test_a_poisoned_batch_whose_first_events_have_expired_comes_to_an_end(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """Nothing else succeeds. An event that has expired says nothing about the processor."""
    processor = """
from tests.times import hurry_for_good
hurry_for_good(breaker_opens_after_ms=200)

def process(batch):
    if 3 in batch:
        raise ValueError("no")
    return batch
"""
    settings = {"max_retries": 1, "retry_delay": 0.1, "max_size": 6}
    with fleet_of(valkey_server, tmp_path, processor, **settings) as fleet:
        mb = fleet.batcher()
        expired = [mb.submit(n, expires=0.001) for n in (0, 1, 2)]
        futures = mb.submit_many([3, 4, 5])
        sent(fleet, 6)
        work(fleet)
        assert [type(error_of(future, 120)) for future in expired] == [EventExpired] * 3
        assert isinstance(error_of(futures[0], 120), EventFailed)
        assert [future.result(LONG) for future in futures[1:]] == [4, 5]
        for batch in list(fleet.broker.dead):
            fleet.broker.dead.purge(batch.id)


def test_a_commit_replies_although_the_server_is_out_of_memory(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    with fleet_of(server, tmp_path) as fleet:
        mb = fleet.batcher()
        futures = mb.submit_many(range(10))
        sent(fleet, 10)
        with fleet.scheduling():
            wait_until(lambda: not fleet.broker.events.waiting(), message=fleet.state)
        runner = BatchRunner(fleet.config(batch_processor=lambda batch: batch))
        batch = runner.claim(fleet.broker.ledger.in_flight()[0])
        assert batch is not None
        server.admin.config_set("maxmemory", "1")
        refused = fleet.batcher().submit(1)
        assert isinstance(error_of(refused), RefusedForNow)
        assert runner.record_outcome(runner.process(batch)).text == "done"
        assert [future.result(LONG) for future in futures] == list(range(10))


# What can't be submitted.


def test_an_id_that_was_seen_is_told_at_once(fleet: Fleet) -> None:
    """No event was recorded, so no reply would ever come."""
    mb = fleet.batcher(dedupe_window=60)
    first, second = mb.submit(1, id="one"), mb.submit(2, id="one")
    other = mb.submit(3, id="other")
    assert isinstance(error_of(second), AlreadyRecorded)
    sent(fleet, 2)
    work(fleet)
    assert (first.result(LONG), other.result(LONG)) == (-1, -3)


def test_a_full_batcher_fails_only_the_futures_that_have_no_room(fleet: Fleet) -> None:
    fleet.batcher().record_events(range(10))
    mb = fleet.batcher(max_waiting=15)
    futures = mb.submit_many(range(10, 20))  # there is room for five, however they are sent
    outcomes = [error_of(future) for future in futures[5:]]
    assert [type(error) for error in outcomes] == [BatcherFull] * 5
    sent(fleet, 15)
    work(fleet)
    assert [future.result(LONG) for future in futures[:5]] == [-n for n in range(10, 15)]


def test_there_are_no_more_than_max_pending(fleet: Fleet) -> None:
    mb = fleet.batcher(max_pending=3)
    futures = mb.submit_many([1, 2, 3])
    with pytest.raises(
        TooManyPending, match=r"3 replies are waited for \(max_pending\); nothing was recorded"
    ):
        mb.submit(4)
    sent(fleet, 3)
    work(fleet)
    assert [future.result(LONG) for future in futures] == [-1, -2, -3]
    assert mb.submit(4).result(LONG) == -4


def test_with_block_when_full_submit_waits_for_a_reply(fleet: Fleet) -> None:
    mb = fleet.batcher(max_pending=2, block_when_full=LONG)
    futures = mb.submit_many([1, 2])
    sent(fleet, 2)
    with ThreadPoolExecutor(1) as threads:
        blocked = threads.submit(mb.submit, 3)
        work(fleet)
        assert blocked.result(LONG).result(LONG) == -3
    assert [future.result(LONG) for future in futures] == [-1, -2]


@pytest.mark.parametrize("free", ["cancel", "time out", "close"])
def test_a_blocked_submit_goes_on_when_a_future_is_no_longer_pending(fleet: Fleet, free: str) -> None:
    mb = fleet.batcher(max_pending=1, block_when_full=LONG)
    first = mb.submit(1, timeout=1 if free == "time out" else None)
    sent(fleet, 1)
    with ThreadPoolExecutor(1) as threads:
        blocked = threads.submit(mb.submit, 2)
        if free == "cancel":
            first.cancel()
        elif free == "close":
            mb.close()
        if free == "close":
            assert isinstance(error_of(blocked), Stopped)
        else:
            assert not blocked.result(LONG).done()


def test_what_can_not_be_submitted_is_refused_at_the_call(fleet: Fleet) -> None:
    mb = fleet.batcher()
    for wrong in ({"timeout": 0}, {"timeout": "5"}, {"expires": -1}, {"expires": True}):
        with pytest.raises(EncodeError, match="is a number of seconds"):
            mb.submit(1, **wrong)
    with pytest.raises(EncodeError, match="the event cannot be encoded as JSON"):
        mb.submit(object())
    with pytest.raises(ConfigError, match="dedupe_window"):
        mb.submit(1, id="one")
    for call in (mb.submit_many, mb.map):
        with pytest.raises(
            EncodeError, match="takes many events, and was given one str: put it in a list, or call"
        ):
            call("abc")
    plain = fleet.batcher(per_event=False)
    for submit in (plain.submit, lambda event: plain.map([event]), lambda event: plain.submit_many([event])):
        with pytest.raises(ConfigError, match=r"Config\(per_event=True\)"):
            submit(1)
    assert reply_keys(fleet) == []
    assert fleet.broker.events.waiting() == 0


def test_nothing_is_submitted_after_the_stop(fleet: Fleet) -> None:
    mb = fleet.batcher()
    before = mb.submit(1)
    mb.stop()
    with pytest.raises(Stopped):
        mb.submit(2)
    assert fleet.broker.events.waiting() == 1
    work(fleet)
    assert before.result(LONG) == -1
    mb.close()
    with pytest.raises(Stopped):
        mb.submit(3)


def test_a_close_fails_the_futures_that_are_pending(fleet: Fleet) -> None:
    mb, called = fleet.batcher(), list[Any]()
    futures = mb.submit_many([1, 2])
    futures[0].add_done_callback(lambda settled: called.append(settled.exception()))
    mb.close()
    assert [type(error_of(future)) for future in futures] == [Closed, Closed]
    wait_until(lambda: [type(error) for error in called] == [Closed])
    assert fleet.broker.events.waiting() == 2
    assert reply_keys(fleet) == []
    mb.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name in names for name in ("letters replies", "letters submits"))


def test_a_close_says_which_events_were_never_sent(
    make_server: MakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hurry(monkeypatch, close_seconds=0.2)
    server = make_server()
    with fleet_of(server, tmp_path) as fleet:
        mb = fleet.batcher()
        recorded = mb.submit(1)
        sent(fleet, 1)
        server.pause()
        on_its_way = mb.submit(2)
        wait_until(lambda: mb._submitter is not None and mb._submitter._is_writing)
        unsent = mb.submit(3)
        mb.close()
        assert isinstance(error_of(recorded), Closed)
        assert isinstance(error_of(on_its_way), Closed)
        assert isinstance(error_of(unsent), Unavailable)
        assert "not recorded" in str(error_of(unsent))
        assert "letters: lost 1 submitted events: the batcher was closed first" in caplog.text
        server.resume()


EXIT = """
from microbatch.broker.app.config import Config
from microbatch.producer import start

mb = start(Config(batch_processor=print, max_pending=20_000))
for number in range(20_000):
    mb.submit(number)
"""


@pytest.mark.leaves("reply")
def test_what_was_submitted_is_sent_at_the_end_of_the_program(fleet: Fleet) -> None:
    assert fleet.run(EXIT).wait() == 0
    assert fleet.broker.events.waiting() == 20_000


FORK = """
import os, threading
from concurrent.futures import wait
from microbatch.broker.app.config import Config
from microbatch.producer import start

def say(*words):  # in one write, because two processes and several threads share the output
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

parent = os.getpid()
mb = start(Config(batch_processor=print))
futures = mb.submit_many(range(100))
futures[0].add_done_callback(lambda settled: say("child:", os.getpid() != parent))
child = os.fork() or os.getpid()
if child == os.getpid():
    done, pending = wait(futures, 30)
    kinds = {type(future.exception(30)).__name__ for future in done}
    say("child", len(pending), *kinds)
    say("child", mb.submit(1_000).result(60))
    mb.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
say("parent", sum(future.result(60) for future in futures))
say("parent", mb.submit(2_000).result(60))
mb.close()
"""


def test_a_forked_child_submits_for_itself(fleet: Fleet) -> None:
    program = fleet.run(FORK)
    program.wait_for_line("child 0 ReplyLost")
    program.wait_for_line("child: True")
    work(fleet)
    program.wait_for_line("child -1000")
    program.wait_for_line(f"parent {-sum(range(100))}")
    program.wait_for_line("parent -2000")
    assert program.wait() == 0
    assert "child: False" in program.output
    assert reply_keys(fleet) == []


def test_a_signal_handler_may_stop_and_cancel_while_the_thread_submits(fleet: Fleet) -> None:
    mb = fleet.batcher()
    futures: list[Future[Any]] = []

    def stop(_signal: int, _frame: object) -> None:
        futures[0].cancel()
        mb.stop()

    signal.signal(signal.SIGUSR1, stop)
    killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    killer.start()
    with pytest.raises(Stopped):  # noqa: PT012 - the handler interrupts any of these calls
        while True:
            futures += mb.submit_many(range(10))
            if len(futures) > 5_000:
                wait_until(lambda: not killer.is_alive())
    assert futures[0].cancelled()
    # The call that the handler interrupts may go on after the stop, and its event is sent soon.
    wait_until(lambda: fleet.broker.events.waiting() >= len(futures))
