"""A consumer on its own thread: how it starts, stops, and reports errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from microbatch.broker.errors import Refused
from tests.doubles import FailsOnce, HandlerFailed
from tests.fleet import Fleet
from tests.integration.test_stopping_consumers import AT_ONCE, Handler
from tests.servers import RealServer
from tests.times import hurry
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("results", "wake", "events")


@pytest.fixture
def fleet(valkey_server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(valkey_server, tmp_path) as fleet:
        yield fleet


def test_it_handles_results_until_it_is_stopped(fleet: Fleet) -> None:
    handled: list[int] = []
    mb = fleet.batcher(result_handler=handled.append)
    with mb.start_consuming() as consumer:
        fleet.add_results(1)
        wait_until(lambda: handled == [1])
        assert consumer.is_running
    assert consumer.error is None
    fleet.add_results(2)
    assert consumer.stop()  # once more
    assert mb.wait_for_results(0.5) is False  # the batcher itself still works
    assert handled == [1, 2]


def test_it_stops_at_once_and_leaves_to_others_what_it_has_not_begun(fleet: Fleet) -> None:
    handler, others = Handler(), list[int]()
    mb, other = fleet.batcher(result_handler=handler), fleet.batcher(result_handler=others.append)
    fleet.add_results(*range(10))
    consumer = mb.start_consuming()
    assert handler.began.wait(20)
    staying = other.start_consuming()
    began = time.monotonic()
    assert not consumer.stop(0.1)  # the call in progress continues
    handler.go.set()
    assert consumer.stop(AT_ONCE)
    wait_until(lambda: len(others) == 9, timeout=AT_ONCE)
    assert time.monotonic() - began < AT_ONCE
    assert (handler.handled, others) == ([0], list(range(1, 10)))
    assert staying.stop()


def test_it_ends_when_all_that_was_recorded_before_a_stop_is_handled(fleet: Fleet) -> None:
    handled: list[int] = []
    fleet.worker()
    fleet.scheduler()
    with fleet.batcher(result_handler=handled.append) as mb:
        consumers = [mb.start_consuming() for _ in range(3)]
        mb.record_events([1, 2, 4])
        mb.stop()
        assert all(consumer.join(20) for consumer in consumers)
    assert handled == [7]


def test_without_on_error_it_ends_with_the_error_which_is_logged_and_raised(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    handler = FailsOnce()
    mb = fleet.batcher(result_handler=handler)
    fleet.add_results(1, 2)
    consumer = mb.start_consuming()
    with pytest.raises(HandlerFailed, match="for 1"):
        consumer.join(20)
    assert isinstance(consumer.error, HandlerFailed)
    assert not consumer.is_running
    assert caplog.text.count("letters: the background consumer ends") == 1
    with pytest.raises(HandlerFailed, match="for 1"):
        consumer.stop()
    with mb.start_consuming():  # it is delivered again
        wait_until(lambda: handler.calls == [1, 1, 2])


def test_with_on_error_it_goes_on_a_while_later(fleet: Fleet) -> None:
    handler, errors = FailsOnce(), list[Exception]()
    mb = fleet.batcher(result_handler=handler)
    fleet.add_results(1, 2)
    consumer = mb.start_consuming(on_error=errors.append)
    wait_until(lambda: handler.calls == [1, 1, 2])
    assert [str(error) for error in errors] == ["for 1"]
    assert consumer.stop()
    assert consumer.error is None


def test_a_pause_after_an_error_ends_at_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, error_pause_seconds=60)
    told = threading.Event()
    mb = fleet.batcher(result_handler=FailsOnce())
    fleet.add_results(1)
    consumer = mb.start_consuming(on_error=lambda _error: told.set())
    assert told.wait(20)
    began = time.monotonic()
    mb.close()
    assert consumer.join(AT_ONCE)
    assert time.monotonic() - began < AT_ONCE


def test_an_on_error_that_raises_ends_it(fleet: Fleet) -> None:
    def give_up(error: Exception) -> None:
        raise error

    mb = fleet.batcher(result_handler=FailsOnce())
    fleet.add_results(1)
    with pytest.raises(HandlerFailed):
        mb.start_consuming(on_error=give_up).join(20)


def test_what_the_server_refuses_is_an_error_too(fleet: Fleet, valkey_server: RealServer) -> None:
    valkey_server.admin.set(fleet.broker.keys.results, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        fleet.batcher().start_consuming().join(20)


def test_the_error_of_its_block_comes_out(fleet: Fleet) -> None:
    mb = fleet.batcher(result_handler=FailsOnce())
    fleet.add_results(1)
    consumer = mb.start_consuming()
    wait_until(lambda: consumer.error)
    with pytest.raises(ZeroDivisionError), consumer:
        raise ZeroDivisionError
    with pytest.raises(HandlerFailed), consumer:
        pass


def test_a_handler_may_stop_its_own_consumer(fleet: Fleet) -> None:
    handled: list[int] = []

    def show(result: int) -> None:
        handled.append(result)
        stopped.append(consumer.stop())

    stopped: list[bool] = []
    mb = fleet.batcher(result_handler=show)
    consumer = mb.start_consuming()
    fleet.add_results(1, 2, 3)
    assert consumer.join(20)
    assert (handled, stopped) == ([1], [False])
