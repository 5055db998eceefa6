"""The verbs of recording, results and status on asyncio. They are the same verbs that threads use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import BatcherFull, ConfigError, InDoubt, Refused, Unavailable
from microbatch.broker.inspect.snapshot import snapshot, take_snapshot
from microbatch.broker.state.claims import Claims
from microbatch.broker.state.events import Events
from microbatch.broker.state.flushes import Flushes, FlushState
from microbatch.broker.state.ledger import Ledger
from microbatch.broker.state.progress import Progress
from microbatch.broker.state.results import Results
from microbatch.broker.state.stats import Stats
from microbatch.broker.state.unhandled import Unhandled
from microbatch.broker.state.wake import Wake, WakeList
from microbatch.broker.transport.async_server import AsyncServer
from microbatch.broker.transport.clock import ServerTime
from microbatch.broker.transport.request import command, commands
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.event import event_prefix
from microbatch.broker.wire.outcome import Outcome
from microbatch.producer import Config
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import claim, record_and_cut, values_of

pytestmark = pytest.mark.leaves("events", "wake", "seen", "results", "inflight", "batch")

PREFIX = event_prefix(1_000)


@asynccontextmanager
async def serving(server: RealServer | Proxy) -> AsyncIterator[AsyncServer]:
    found = AsyncServer.at(server.url)
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
def broker(server: RealServer) -> Iterator[Broker]:
    """The same batcher, as threads use it."""
    broker = Broker(Config(name="letters", redis_url=server.url, max_size=3))
    yield broker
    broker.close()


def waiting(broker: Broker) -> list[int]:
    return values_of(broker.server.do("LRANGE", broker.keys.events, 0, -1))


def test_recording(server: RealServer, broker: Broker) -> None:
    async def record() -> None:
        async with serving(server) as there:
            events = Events(there, broker.keys, ServerTime(), dedupe_window=60)
            assert await events.record([b"1"], PREFIX, full_at=3) == 1
            assert await events.record([b"2", b"3"], PREFIX, full_at=3) == 3
            assert await events.record([b"4"], PREFIX, "an id") == 4
            assert await events.record([b"4"], PREFIX, "an id") == 0
            assert await events.waiting() == 4
            flushes = Flushes(there, broker.keys)
            assert [await flushes.ask(Wake.FLUSH), await flushes.ask(Wake.MARK)] == [1, 2]
            assert await flushes.state() == FlushState(asked=2, done=0, waiting=4)

    asyncio.run(record())
    assert waiting(broker) == [1, 2, 3, 4]
    assert broker.server.do("LRANGE", broker.keys.wake, 0, -1) == [b"size", b"flush", b"mark"]


def test_a_bound_is_kept(server: RealServer, broker: Broker) -> None:
    async def record() -> None:
        async with serving(server) as there:
            events = Events(there, broker.keys, ServerTime(), max_waiting=2)
            assert await events.record([b"1", b"2"], PREFIX) == 2
            with pytest.raises(BatcherFull):
                await events.record([b"3"], PREFIX)

    asyncio.run(record())
    assert waiting(broker) == [1, 2]


def test_many_tasks_record_at_the_same_time(server: RealServer, broker: Broker) -> None:
    """Each task gets its own reply."""

    async def record() -> list[int]:
        async with serving(server) as there:
            events = Events(there, broker.keys, ServerTime())
            return await asyncio.gather(*(events.record([b"%d" % number], PREFIX) for number in range(50)))

    assert sorted(asyncio.run(record())) == list(range(1, 51))
    assert sorted(waiting(broker)) == list(range(50))


def test_results(server: RealServer, broker: Broker) -> None:
    """From the ledger to the handler: a batch is claimed and committed, and its result read and handled."""

    async def work() -> None:
        async with serving(server) as there:
            ledger, results = Ledger(there, broker.keys), Results(there, broker.keys)
            progress, unhandled = Progress(there, broker.keys), Unhandled(there, broker.keys)
            await results.prepare()
            await progress.open()
            batch_id = record_and_cut(broker, 1, 2)
            assert await ledger.in_flight() == [batch_id]
            batch = await ledger.claim(batch_id, owner="me", now_ms=1, due_ms=10**12)
            assert batch is not None
            assert len(batch.events) == 2
            claimed = await Claims(there, broker.keys).find("me", 1)
            assert claimed is not None
            assert claimed.id == batch_id
            outcome = Outcome(batch_id, batch.header, 1, 1, result=b"7")
            assert await ledger.commit(batch_id, Ending(outcome.encode()))
            assert not await ledger.commit(batch_id, Ending(outcome.encode()))
            assert await progress.wait(5_000)
            assert await unhandled.count() == 1
            (entry,) = await results.wait(count=10, wait_ms=5_000)
            assert Outcome.decode(entry.fields) == outcome
            assert await results.read_own(count=10) == [entry]
            await results.extend_claim([entry.id])
            await results.acknowledge([entry.id])
            assert await unhandled.no_consumer() == ""
            assert not await unhandled.any_up_to(await unhandled.last_id())
            await results.leave_group()
            assert await unhandled.unseen_ms() is None

    asyncio.run(work())


def test_status(server: RealServer, broker: Broker) -> None:
    record_and_cut(broker, 1, 2)
    broker.events.record([b"1"], PREFIX)

    async def look() -> None:
        async with serving(server) as there:
            found = await there.perform(snapshot(broker.keys, broker.config.lease_ttl_ms))
            assert (found.waiting_events, found.in_flight_batches, found.account.in_flight) == (1, 1, 2)
            stats = Stats(there, broker.keys)
            assert await stats.counters() == found.counters == take_snapshot(broker).counters
            await stats.mark(found.at_ms)
            assert (await stats.rates(found.at_ms + 1_000)).recorded == 0
            await WakeList(there, broker.keys).tell(Wake.FLUSH)

    asyncio.run(look())
    assert broker.server.do("LRANGE", broker.keys.wake, 0, -1) == [b"flush"]


def test_a_script_is_loaded_when_it_is_not_known(server: RealServer, broker: Broker) -> None:
    batch_id = record_and_cut(broker, 1)
    claimed = claim(broker, batch_id)
    server.admin.script_flush()

    async def commit() -> bool:
        async with serving(server) as there:
            return await Ledger(there, broker.keys).commit(claimed.id)

    assert asyncio.run(commit())


def test_errors_are_those_of_threads(server: RealServer, broker: Broker) -> None:
    async def ask() -> None:
        async with serving(server) as there:
            with pytest.raises(Refused, match="WRONGTYPE"):
                await there.perform(commands(("SET", "text", 1), ("LPUSH", "text", 1)))
            assert await there.perform(command("GET", "text")) == b"1"
            await there.perform(command("DEL", "text"))
        away = AsyncServer.at("redis://127.0.0.1:1")
        with pytest.raises(Unavailable, match=r"no server answers at redis://127\.0\.0\.1:1"):
            await away.perform(command("PING"))
        await away.close()

    asyncio.run(ask())


def test_a_lost_reply_is_in_doubt(valkey_server: RealServer) -> None:
    async def ask(proxy: Proxy) -> None:
        async with serving(proxy) as there:
            await there.perform(command("SET", "test:number", 1))
            proxy.eat_reply_to("INCR")
            with pytest.raises(InDoubt):
                await there.perform(command("INCR", "test:number"))
            assert await there.perform(command("GET", "test:number")) == b"2"  # not sent twice
            await there.perform(command("DEL", "test:number"))

    with Proxy(valkey_server) as proxy:
        asyncio.run(ask(proxy))


@pytest.mark.parametrize("steps", range(12))
def test_a_task_may_be_cancelled_at_any_moment(valkey_server: RealServer, steps: int) -> None:
    """The task ends at once, and nobody else gets the reply that it did not read."""

    async def ask() -> None:
        async with serving(valkey_server) as there:
            await there.perform(command("SET", "test:number", 1))
            task = asyncio.create_task(there.perform(command("BLPOP", "test:nothing", 0)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await there.perform(command("GET", "test:number")) == b"1"
            await there.perform(command("DEL", "test:number"))

    asyncio.run(ask())


def test_a_task_may_be_cancelled_while_it_connects(valkey_server: RealServer) -> None:
    """Nobody gets a connection whose handshake is not over, and reads its replies or another database."""

    async def ask() -> bytes:
        there = AsyncServer.at(f"{valkey_server.url}?db=1")
        cancelled = asyncio.create_task(there.perform(command("GET", "test:database")))
        await asyncio.wait((cancelled,), timeout=0.2)  # the server is frozen, and does not answer
        cancelled.cancel()
        await asyncio.wait((cancelled,))
        asked = asyncio.create_task(there.perform(command("GET", "test:database")))
        await asyncio.wait((asked,), timeout=0.2)
        valkey_server.resume()
        answer: bytes = await asked
        await there.close()
        return answer

    one = Server.at(f"{valkey_server.url}?db=1")
    one.do("SET", "test:database", 1)
    valkey_server.pause()
    assert asyncio.run(ask()) == b"1"
    one.do("DEL", "test:database")
    one.close()


def test_a_refused_handshake_is_refused_each_time(valkey_server: RealServer) -> None:
    """Otherwise the second request would use the half-made connection, which is to another database."""

    async def ask() -> None:
        there = AsyncServer.at(f"{valkey_server.url}?db=99")
        for _ in range(3):
            with pytest.raises(Refused, match=r"out of range|Invalid Database"):
                await there.perform(command("SET", "test:lost", 1))
        await there.close()

    asyncio.run(ask())
    assert valkey_server.admin.get("test:lost") is None


def test_a_task_that_was_cancelled_may_clean_up(valkey_server: RealServer) -> None:
    async def ask() -> None:
        async with serving(valkey_server) as there:

            async def wait_and_clean_up() -> None:
                try:
                    await there.perform(command("BLPOP", "test:nothing", 0))
                finally:
                    await there.perform(command("SET", "test:cleaned", 1))

            task = asyncio.create_task(wait_and_clean_up())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await there.perform(command("GETDEL", "test:cleaned")) == b"1"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://127.0.0.1:1", "a Sentinel URL names its service"),
        ("redis://127.0.0.1/0?colour=red", "colour"),
        ("http://127.0.0.1", "unknown scheme"),
        ("redis://127.0.0.1/0?socket_timeout=1", "Microbatch's own to set"),
    ],
)
def test_an_url_that_can_not_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AsyncServer.at(url)
