"""Recording on asyncio: many tasks share few round trips, and none sees what is another's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.producer import (
    BatcherFull,
    Config,
    EncodeError,
    InDoubt,
    Refused,
    Stopped,
    Unavailable,
    connect,
)
from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.loops import RUNS, Run, until
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import values_of
from tests.wiretap import wiretap

pytestmark = pytest.mark.leaves("events", "wake", "seen", "inflight", "batch")

TASKS = 1_000


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: these clients send what the clients of threads send, tested on both."""
    return valkey_server


def letters(server: RealServer | Proxy, **settings: Any) -> Config:
    return Config(**{"name": "letters", "redis_url": server.url, "max_size": 30, **settings})


def recorded(server: RealServer) -> list[Any]:
    """The events that wait, in order."""
    broker = Broker(letters(server))
    try:
        return values_of(broker.server.do("LRANGE", broker.keys.events, 0, -1))
    finally:
        broker.close()


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_a_thousand_tasks_record_once_each_in_few_round_trips(server: RealServer, run: Run[None]) -> None:
    async def record() -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event("first")  # so that the connection is open
            with wiretap(server) as said:
                await asyncio.gather(*(mb.record_event(number) for number in range(TASKS)))
            assert len(said.trips) <= 3, str(said)
            assert len(server.admin.client_list(_type="normal")) <= 3  # the test's own is one

    run(record())
    assert sorted(recorded(server)[1:]) == list(range(TASKS))


def test_what_comes_during_a_write_goes_out_with_the_next(valkey_server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(valkey_server, max_size=25_000)) as mb:
            await mb.record_event(0)
            with wiretap(valkey_server) as said:
                first = asyncio.create_task(mb.record_event(1))
                while not said.trips:  # noqa: ASYNC110 - until it is on its way, and not until it is answered
                    await asyncio.sleep(0)
                await asyncio.gather(first, *(mb.record_event(number) for number in range(2, 100)))
            assert said.trips == ["RPUSH", "RPUSH"]

    asyncio.run(record())
    assert recorded(valkey_server) == list(range(100))


def test_an_event_that_is_not_valid_is_its_callers_alone(server: RealServer) -> None:
    async def record() -> list[Any]:
        async with connect(letters(server, max_event_bytes=100)) as mb:
            events = ["a", object(), "b", "x" * 200, "c"]
            return await asyncio.gather(*map(mb.record_event, events), return_exceptions=True)

    kinds = [type(outcome) for outcome in asyncio.run(record())]
    assert kinds == [type(None), EncodeError, type(None), EncodeError, type(None)]
    assert recorded(server) == ["a", "b", "c"]


def test_a_refusal_reaches_every_caller_of_the_write(server: RealServer) -> None:
    async def record() -> list[Any]:
        async with connect(letters(server)) as mb:
            server.admin.set("mb:{letters}:events", "text")
            outcomes = await asyncio.gather(*map(mb.record_event, range(50)), return_exceptions=True)
            server.admin.delete("mb:{letters}:events")
            await mb.record_event("after")
            return outcomes

    outcomes = asyncio.run(record())
    assert {type(outcome) for outcome in outcomes} == {Refused}
    assert len({id(outcome) for outcome in outcomes}) == 50  # each may be raised and changed on its own
    assert recorded(server) == ["after"]


def test_a_lost_reply_puts_every_caller_of_the_write_in_doubt(valkey_server: RealServer) -> None:
    async def record(proxy: Proxy) -> list[Any]:
        async with connect(letters(proxy)) as mb:
            await mb.record_event("before")
            proxy.eat_reply_to("RPUSH")
            outcomes = await asyncio.gather(*map(mb.record_event, range(50)), return_exceptions=True)
            await mb.record_event("after")
            return outcomes

    with Proxy(valkey_server) as proxy:
        assert {type(outcome) for outcome in asyncio.run(record(proxy))} == {InDoubt}
    assert recorded(valkey_server) == ["before", *range(50), "after"]  # and nothing was sent twice


def test_a_server_that_is_away_is_unavailable_at_once(make_server: MakeServer) -> None:
    server = make_server()

    async def record() -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event("before")
            server.kill()
            with pytest.raises((Unavailable, InDoubt)):  # the connection was open
                await mb.record_event("lost")
            outcomes = await asyncio.gather(*map(mb.record_event, range(50)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Unavailable}
            server.start()
            await mb.record_event("after")

    asyncio.run(record())
    assert recorded(server)[-1] == "after"


def test_many_events_of_a_plain_and_of_an_async_iterable(server: RealServer) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(2_500):
            yield number

    async def record() -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event("first")
            with wiretap(server) as said:
                assert await mb.record_events(range(2_500)) == 2_500
                assert await mb.record_events(numbers()) == 2_500
                assert await mb.record_events([]) == 0
            assert sum(trip.startswith("RPUSH") for trip in said.trips) == 6  # chunks of a thousand
            with pytest.raises(EncodeError, match="put it in a list"):
                await mb.record_events("abc")

    asyncio.run(record())
    assert recorded(server) == ["first", *range(2_500), *range(2_500)]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_event_that_is_not_valid_ends_many_and_its_chunk_is_not_recorded(
    server: RealServer, is_async: bool
) -> None:
    events: list[object] = [*range(1_500), object(), 1]

    async def one_by_one() -> AsyncIterator[object]:
        for event in events:
            yield event

    async def record() -> None:
        async with connect(letters(server)) as mb:
            with pytest.raises(EncodeError):
                await mb.record_events(one_by_one() if is_async else events)

    asyncio.run(record())
    assert recorded(server) == list(range(1_000))


def test_an_id_is_recorded_once(server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(server, dedupe_window=60)) as mb:
            await asyncio.gather(*(mb.record_event("a", id="one") for _ in range(50)))
            await asyncio.gather(*(mb.record_event(number, id=f"{number}") for number in range(50)))
            with pytest.raises(EncodeError, match="1 to 200 characters"):
                await mb.record_event("a", id="")

    asyncio.run(record())
    assert sorted(recorded(server), key=str) == sorted(["a", *range(50)], key=str)


def test_a_caller_without_room_waits_for_it(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO, max_waiting=10, block_when_full=30, frequency=20) as fleet:

        async def record() -> None:
            async with connect(fleet.config()) as mb:
                tasks = [asyncio.create_task(mb.record_event(number)) for number in range(100)]
                await until(lambda: fleet.broker.events.waiting() == 10)
                fleet.scheduler_process()
                await asyncio.gather(*tasks)

        asyncio.run(record())
        fleet.wait_for_cut(100)


def test_without_room_for_long_a_caller_is_told(server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(server, max_waiting=10, block_when_full=0.2)) as mb:
            outcomes = await asyncio.gather(*map(mb.record_event, range(100)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes].count(BatcherFull) == 90

    asyncio.run(record())
    assert len(recorded(server)) == 10


async def storm(tasks: list[asyncio.Task[None]], chance: random.Random, often: float = 0.5) -> list[Any]:
    """Cancel some of the tasks at any moment. Returns how each has ended."""
    left = list(tasks)
    while left:
        for task in chance.sample(left, min(len(left), 20)):
            if chance.random() < often:
                task.cancel()
        await asyncio.sleep(0)
        left = [task for task in left if not task.done()]
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
@pytest.mark.parametrize("seed", range(3))
def test_cancelled_tasks_leave_the_others_untouched(
    valkey_server: RealServer, run: Run[None], seed: int
) -> None:
    """Who was told that its event is recorded, has it recorded, and nobody's is recorded twice."""
    chance = random.Random(seed)
    kept: set[int] = set()

    async def record() -> None:
        async with connect(letters(valkey_server)) as mb:
            for first in range(0, 5_000, TASKS):
                numbers = range(first, first + TASKS)
                tasks = [asyncio.create_task(mb.record_event(number)) for number in numbers]
                outcomes = await storm(tasks, chance)
                assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
                kept.update(n for n, outcome in zip(numbers, outcomes, strict=True) if outcome is None)
            await mb.record_event("after")

    run(record())
    found = recorded(valkey_server)
    assert found.pop() == "after"
    assert len(set(found)) == len(found)
    assert kept <= set(found)


@pytest.mark.parametrize("seed", range(3))
def test_cancelled_tasks_cross_no_replies(valkey_server: RealServer, seed: int) -> None:
    """Each reply is either yes or no. Who gets yes has its event recorded, and who gets no has not."""
    chance = random.Random(seed)

    async def record() -> list[Any]:
        async with connect(letters(valkey_server, max_waiting=400)) as mb:
            tasks = [asyncio.create_task(mb.record_event(number)) for number in range(2_000)]
            return await storm(tasks, chance, often=0.02)

    outcomes = asyncio.run(record())
    found = set(recorded(valkey_server))
    yes = {number for number, outcome in enumerate(outcomes) if outcome is None}
    no = {number for number, outcome in enumerate(outcomes) if isinstance(outcome, BatcherFull)}
    assert yes
    assert no
    assert yes <= found
    assert not no & found


def test_what_was_not_sent_when_its_task_was_cancelled_is_not_sent(server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event("first")
            server.pause()
            under_way = asyncio.create_task(mb.record_event("second"))
            await asyncio.sleep(0)
            cancelled = asyncio.create_task(mb.record_event("cancelled"))
            later = asyncio.create_task(mb.record_event("third"))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait((cancelled,))
            server.resume()
            await asyncio.gather(under_way, later)

    asyncio.run(record())
    assert recorded(server) == ["first", "second", "third"]


def test_a_task_of_the_client_that_somebody_cancels_holds_up_nobody(valkey_server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(valkey_server)) as mb:
            mine = asyncio.create_task(mb.record_event("doubtful"))
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task(), mine}:
                task.cancel()
            with pytest.raises((Unavailable, InDoubt)):
                await mine
            await mb.record_event("after")

    asyncio.run(record())
    assert recorded(valkey_server)[-1] == "after"


def test_after_a_stop_nothing_is_recorded(server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(server)) as mb:
            tasks = [asyncio.create_task(mb.record_event(number)) for number in range(100)]
            await asyncio.sleep(0)
            await mb.flush()
            assert len(recorded(server)) == 100
            await asyncio.gather(*tasks)
            await mb.stop()
            with pytest.raises(Stopped, match="the event was not recorded"):
                await mb.record_event("late")
            with pytest.raises(Stopped, match="3 events were not recorded"):
                await mb.record_events([1, 2, 3])

    asyncio.run(record())
    assert len(recorded(server)) == 100


def test_the_end_of_the_block_stops_and_an_error_of_the_block_comes_out(server: RealServer) -> None:
    async def record() -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event("a")
            raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        asyncio.run(record())
    assert server.admin.hget("mb:{letters}:flushes", "asked") == b"1"
    assert len(server.admin.client_list(_type="normal")) == 1
