"""Consuming on asyncio: by the config's handlers, or one by one. Nothing is lost, whatever is cancelled."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.broker import AsyncBroker
from microbatch.producer import (
    AsyncMicroBatcher,
    BatchFailure,
    BatchInfo,
    Received,
    Refused,
    ResultStream,
    connect,
)
from tests.conftest import MakeServer
from tests.doubles import Notes
from tests.fleet import Fleet
from tests.loops import RUNS, Run, until
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.times import hurry

pytestmark = pytest.mark.leaves("results", "wake", "events", "dead", "batch")

AT_ONCE = 2.0
"""Without a stop, a wait lasts longer. Results that are not handed back wait for ``claim_after``: 30 s."""


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: these clients send what the clients of threads send, tested on both."""
    return valkey_server


@pytest.fixture
def fleet(server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server, tmp_path) as fleet:
        yield fleet


def client(fleet: Fleet, **settings: Any) -> AsyncMicroBatcher:
    return connect(fleet.config(**settings))


async def blocked(server: RealServer, count: int = 1) -> None:
    await until(lambda: server.admin.info("clients")["blocked_clients"] >= count)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_from_recording_to_the_handler(fleet: Fleet, run: Run[bool], kind: str) -> None:
    results: list[tuple[int, bool]] = []

    def handle(result: int) -> None:
        results.append((result, threading.current_thread() is threading.main_thread()))

    async def handle_on_the_loop(result: int) -> None:
        await asyncio.sleep(0)
        handle(result)

    async def work() -> bool:
        handler = handle_on_the_loop if kind == "async" else handle
        async with client(fleet, result_handler=handler) as mb:
            await asyncio.gather(*map(mb.record_event, range(10)))
            await mb.stop()
            return await mb.wait_for_results(60)

    fleet.worker()
    fleet.scheduler_process()
    assert run(work())
    assert sum(result for result, _ in results) == 45
    assert {on_the_loop for _, on_the_loop in results} == {kind == "async"}
    assert fleet.broker.unhandled.count() == 0


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_results_end_when_all_that_was_recorded_before_the_stop_is_handled(
    fleet: Fleet, run: Run[int]
) -> None:
    async def work() -> int:
        async with client(fleet) as mb:
            await mb.record_events(range(100))
            await mb.stop()
            return sum([received.result async for received in mb.results()])

    fleet.worker()
    fleet.scheduler_process()
    assert run(work()) == sum(range(100))
    assert fleet.broker.unhandled.count() == 0


def test_a_wait_ends_when_it_is_told(fleet: Fleet, server: RealServer) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            assert not await mb.wait_for_results(0)
            assert not await mb.wait_for_results(0.05)
            waiting = [asyncio.create_task(mb.wait_for_results()) for _ in range(3)]
            await blocked(server, 3)
            mb.stop_consuming()
            async with asyncio.timeout(AT_ONCE):
                assert await asyncio.gather(*waiting) == [False] * 3
            assert not await mb.wait_for_results()
            assert [received async for received in mb.results()] == []

    asyncio.run(work())


def test_a_stop_ends_a_wait(fleet: Fleet, server: RealServer) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            waiting = asyncio.create_task(mb.wait_for_results())
            await blocked(server)
            await mb.stop()
            async with asyncio.timeout(AT_ONCE):
                assert await waiting

    asyncio.run(work())


def test_stop_consuming_may_be_called_on_another_thread(fleet: Fleet, server: RealServer) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            waiting = asyncio.create_task(mb.wait_for_results())
            await blocked(server)
            threading.Thread(target=mb.stop_consuming).start()
            async with asyncio.timeout(AT_ONCE):
                assert not await waiting

    asyncio.run(work())


def test_a_plain_handler_may_block_and_holds_up_nothing(fleet: Fleet) -> None:
    began, go = threading.Event(), threading.Event()

    def handle(result: int) -> None:
        began.set()
        assert go.wait(20)

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            fleet.add_results(1)
            await mb.stop()
            waiting = asyncio.create_task(mb.wait_for_results())
            await until(began.is_set)
            go.set()
            assert await waiting

    asyncio.run(work())


def test_a_result_whose_handler_raised_is_delivered_again(fleet: Fleet) -> None:
    handled: list[int] = []

    async def handle(result: int) -> None:
        handled.append(result)
        if len(handled) == 2:
            raise LookupError("no paper")

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            fleet.add_results(1, 2, 3)
            await mb.stop()
            with pytest.raises(LookupError, match="no paper"):
                await mb.wait_for_results()
            assert fleet.broker.unhandled.count() == 2
            assert await mb.wait_for_results()

    asyncio.run(work())
    assert handled == [1, 2, 2, 3]


def test_a_plain_handler_that_raises_stop_iteration_ends_the_wait(fleet: Fleet) -> None:
    def handle(result: int) -> None:
        raise StopIteration

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            fleet.add_results(1)
            with pytest.raises(RuntimeError, match="result_handler raised StopIteration"):
                await mb.wait_for_results()

    asyncio.run(work())


def test_an_async_handler_is_cancelled_with_the_wait_and_its_result_comes_again(fleet: Fleet) -> None:
    handled: list[int] = []
    began = asyncio.Event()

    async def handle(result: int) -> None:
        if not began.is_set():
            began.set()
            await asyncio.sleep(60)
        handled.append(result)

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            fleet.add_results(1, 2)
            waiting = asyncio.create_task(mb.wait_for_results())
            await began.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert fleet.broker.unhandled.count() == 2
            await mb.stop()
            assert await mb.wait_for_results()

    asyncio.run(work())
    assert handled == [1, 2]


def test_a_wait_that_is_cancelled_waits_for_a_plain_handler_and_acknowledges(fleet: Fleet) -> None:
    handled: list[int] = []
    began, go = threading.Event(), threading.Event()

    def handle(result: int) -> None:
        began.set()
        assert go.wait(20)
        handled.append(result)

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            fleet.add_results(1, 2)
            waiting = asyncio.create_task(mb.wait_for_results())
            await until(began.is_set)
            waiting.cancel()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert handled == [1]
            assert fleet.broker.unhandled.count() == 1
            await mb.stop()
            assert await mb.wait_for_results()

    asyncio.run(work())
    assert handled == [1, 2]


def test_a_handler_may_close_its_own_client(fleet: Fleet) -> None:
    async def handle(result: int) -> None:
        await clients[0].close()

    clients: list[AsyncMicroBatcher] = []

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            clients.append(mb)
            fleet.add_results(1, 2)
            async with asyncio.timeout(AT_ONCE):
                assert not await mb.wait_for_results()

    asyncio.run(work())
    assert fleet.broker.unhandled.count() == 1
    assert consumers(fleet) == 0


def consumers(fleet: Fleet) -> int:
    """How many members the group has, but for the one that holds what was handed back."""
    group: Any = fleet.broker.server.client.xinfo_consumers(fleet.broker.keys.results, "handlers")
    return sum(member["name"] != b"handed-back" for member in group)


def test_a_result_is_acknowledged_when_the_next_is_asked_for(fleet: Fleet) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            ids = fleet.add_results(1, {"two": 2}, None)
            results = mb.results()
            first = await anext(results)
            assert (first.batch.id, first.result, first.failure) == (ids[0], 1, None)
            assert (first.batch.batcher, first.batch.size) == ("letters", 1)
            assert fleet.broker.unhandled.count() == 3
            assert (await anext(results)).result == {"two": 2}
            assert fleet.broker.unhandled.count() == 2
            assert (await anext(results)).result is None
            assert fleet.broker.unhandled.count() == 1
            await mb.stop()
            with pytest.raises(StopAsyncIteration):
                await anext(results)
            assert fleet.broker.unhandled.count() == 0

    asyncio.run(work())
    assert consumers(fleet) == 0


async def leave_the_loop(mb: AsyncMicroBatcher) -> None:
    async for received in mb.results():
        assert received.result == 1
        break


async def close_the_iterator(mb: AsyncMicroBatcher) -> ResultStream:
    results = mb.results()
    assert (await anext(results)).result == 1
    await results.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(results)
    return results


async def leave_its_block(mb: AsyncMicroBatcher) -> ResultStream:
    async with mb.results() as results:
        assert (await anext(results)).result == 1
    return results


@pytest.mark.parametrize("close", [leave_the_loop, close_the_iterator, leave_its_block])
def test_a_result_in_hand_goes_back_when_the_iterator_is_closed(
    fleet: Fleet, close: Callable[[AsyncMicroBatcher], Awaitable[object]]
) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            fleet.add_results(1, 2, 3)
            closed = await close(mb)
            others = mb.results()
            async with asyncio.timeout(AT_ONCE):
                assert [(await anext(others)).result for _ in range(3)] == [1, 2, 3]
            del closed

    asyncio.run(work())


def test_a_result_in_hand_goes_back_when_the_client_is_closed(fleet: Fleet) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            fleet.add_results(1, 2, 3)
            kept = mb.results()
            assert (await anext(kept)).result == 1
        async with client(fleet) as mb, asyncio.timeout(AT_ONCE):
            others = mb.results()
            assert [(await anext(others)).result for _ in range(3)] == [1, 2, 3]

    asyncio.run(work())


def test_a_result_that_is_asked_for_in_vain_is_not_lost(fleet: Fleet) -> None:
    """Cancelling the request for the next one, as a timeout does, neither ends the iterator nor loses any."""
    chance = random.Random(7)

    async def work() -> None:
        async with client(fleet) as mb:
            results = mb.results()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 0.05)
            wanted = dict(zip(fleet.add_results(*range(200)), range(200), strict=True))
            found: list[Received] = []
            while len(found) < 200:
                task = asyncio.ensure_future(results.__anext__())
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
                found += [
                    got
                    for got in await asyncio.gather(task, return_exceptions=True)
                    if isinstance(got, Received)
                ]
            assert [(received.batch.id, received.result) for received in found] == list(wanted.items())

    asyncio.run(work())


def test_each_result_goes_to_one_iterator(fleet: Fleet) -> None:
    async def take(mb: AsyncMicroBatcher) -> list[int]:
        return [received.result async for received in mb.results()]

    async def work() -> None:
        async with client(fleet) as mb:
            fleet.add_results(*range(100))
            await mb.stop()
            taken = await asyncio.gather(*(take(mb) for _ in range(5)))
            assert sorted(result for each in taken for result in each) == list(range(100))

    asyncio.run(work())


class Point:
    """A type that pydantic can't handle."""


def test_results_are_rebuilt_as_the_type_that_is_wanted(fleet: Fleet) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            fleet.add_results([1, 2], "text")
            results = mb.results(tuple[int, int])
            assert (await anext(results)).result == (1, 2)
            misfit = await anext(results)
            assert misfit.result is None
            assert misfit.failure is not None
            assert misfit.failure.result == "text"
            assert misfit.failure.error.startswith("DecodeError: the result does not fit")
            with pytest.raises(TypeError, match="Point"):
                mb.results(Point)

    asyncio.run(work())


def test_a_dead_batch_is_yielded_with_its_events(fleet: Fleet) -> None:
    async def work() -> Received:
        async with client(fleet) as mb:
            await mb.record_event("x")
            await mb.stop()
            (received,) = [received async for received in mb.results()]
            return received

    fleet.worker(max_retries=0)
    fleet.scheduler_process(max_retries=0)
    received = asyncio.run(work())  # a sum of letters
    assert received.result is None
    assert received.failure is not None
    assert received.failure.error.startswith("TypeError")
    assert received.failure.events == ["x"]
    assert received.failure.batch == received.batch


def test_failures_go_to_the_failure_handler(fleet: Fleet) -> None:
    failures: list[tuple[BatchFailure, BatchInfo]] = []

    async def fail(failure: BatchFailure, batch: BatchInfo) -> None:
        failures.append((failure, batch))

    async def work() -> None:
        async with client(fleet, failure_handler=fail) as mb:
            await mb.record_event("x")
            await mb.stop()
            assert await mb.wait_for_results(60)

    fleet.worker(max_retries=0)
    fleet.scheduler_process(max_retries=0)
    asyncio.run(work())
    ((failure, batch),) = failures
    assert (failure.events, failure.batch) == (["x"], batch)


def test_what_is_not_a_result_is_quarantined_and_the_next_is_yielded(fleet: Fleet) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            fleet.broker.server.do("XADD", fleet.broker.keys.results, "*", "by", "hand")
            fleet.add_results(7)
            assert (await anext(mb.results())).result == 7

    asyncio.run(work())
    place = fleet.broker.keys.quarantine("results")
    assert fleet.broker.server.do("LLEN", place) == 1
    fleet.broker.server.do("DEL", place)


def test_results_in_hand_are_kept_from_others_while_they_are_worked_on(fleet: Fleet) -> None:
    """A slow loop body, for longer than ``claim_after``."""

    async def work() -> None:
        async with client(fleet, claim_after=1) as slow, client(fleet, claim_after=1) as other:
            fleet.add_results(1, 2)
            results = slow.results()
            assert (await anext(results)).result == 1
            others = other.results()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(others), 2.5)
            assert (await anext(results)).result == 2

    asyncio.run(work())


@pytest.mark.parametrize("lost", ["XREADGROUP", "XACK"])
def test_a_lost_reply_loses_no_result(valkey_server: RealServer, tmp_path: Path, lost: str) -> None:
    async def work(fleet: Fleet) -> list[int]:
        async with client(fleet) as mb:
            results = mb.results()
            fleet.add_results(0)
            found = [(await anext(results)).result]
            if lost == "XREADGROUP":
                proxy.eat_reply_to("XREADGROUP", "BLOCK")
            else:
                proxy.eat_reply_to("EVALSHA", "handlers")
            fleet.add_results(*range(1, 20))
            await mb.stop()
            found += [received.result async for received in results]
            return found

    with Proxy(valkey_server) as proxy, Fleet(valkey_server, tmp_path) as fleet:
        fleet.settings["redis_url"] = proxy.url
        assert asyncio.run(work(fleet)) == list(range(20))
        assert fleet.broker.unhandled.count() == 0


def test_consuming_waits_for_a_server_that_is_away(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    with Fleet(server, tmp_path) as fleet:

        async def work() -> None:
            async with client(fleet) as mb:
                waiting = asyncio.create_task(anext(mb.results()))
                await blocked(server)
                server.kill()
                await asyncio.sleep(0.3)
                assert not waiting.done()
                server.start()
                await until(server.admin.ping)
                fleet.add_results(1)
                assert (await waiting).result == 1

        asyncio.run(work())


def test_a_refusal_is_raised_and_loses_nothing(fleet: Fleet, server: RealServer) -> None:
    async def work() -> None:
        async with client(fleet) as mb:
            server.admin.set("mb:{letters}:results", "text")
            with pytest.raises(Refused, match="WRONGTYPE"):
                await anext(mb.results())
            with pytest.raises(Refused, match="WRONGTYPE"):
                await mb.wait_for_results()
            server.admin.delete("mb:{letters}:results")
            fleet.add_results(1)
            assert (await anext(mb.results())).result == 1

    asyncio.run(work())


def test_an_observer_is_told(fleet: Fleet) -> None:
    notes = Notes()

    async def work() -> None:
        config = fleet.config()
        async with AsyncMicroBatcher(config, broker=AsyncBroker(config, observer=notes)) as mb:
            await asyncio.gather(*map(mb.record_event, range(10)))
            fleet.add_results(1)
            results = mb.results()
            await anext(results)
            await results.aclose()
            assert notes.all("handled") == []
            results = mb.results()
            await anext(results)
            mb.stop_consuming()
            with pytest.raises(StopAsyncIteration):
                await anext(results)

    asyncio.run(work())
    assert notes.one("recorded")["count"] == 10
    assert not notes.one("handled")["is_dead"]


def test_a_storm_of_cancelled_waits_loses_no_result(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, acknowledge_seconds=0.0)
    chance = random.Random(3)
    handled: list[tuple[str, int]] = []

    async def handle(result: int, batch: BatchInfo) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        handled.append((batch.id, result))

    async def work() -> None:
        async with client(fleet, result_handler=handle) as mb:
            wanted = set(zip(fleet.add_results(*range(300)), range(300), strict=True))
            while len(set(handled)) < 300:
                tasks = [asyncio.create_task(mb.wait_for_results()) for _ in range(5)]
                for task in tasks:
                    for _ in range(chance.randrange(60)):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert set(handled) == wanted
            await mb.stop()
            assert await mb.wait_for_results(20)

    asyncio.run(work())
    assert fleet.broker.unhandled.count() == 0
