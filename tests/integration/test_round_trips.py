"""The cost of each step of an event's path: round trips, commands, and what scripts call at the server.

The numbers are exact, so that every addition shows here. If a cost changes on purpose, change the table.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from microbatch.broker.broker import AsyncBroker, Broker
from microbatch.broker.errors import InDoubt
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import ServerWakeListener
from microbatch.producer import AsyncMicroBatcher, Config, MicroBatcher
from microbatch.producer.consumer import Consumer
from microbatch.producer.reply_reader import ReplyReader
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.rq.worker import BatchWorker
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualTicker
from tests.servers import RealServer
from tests.times import hurry
from tests.unit.replies import Client
from tests.wiretap import SCRIPTS, Said, wiretap

pytestmark = pytest.mark.leaves("events", "wake", "seen", "inflight", "batch", "results")

MAX_SIZE = 30


def cost(*trips: str, calls: str = "") -> Said:
    """The commands of each round trip, scripts in lower case, and what these call, as ``"TYPE*4 LLEN"``."""
    called = Counter[str]()
    for word in calls.split():
        name, _, times = word.partition("*")
        called[name] += int(times or 1)
    return Said(list(trips), called)


LOOK = "WATCH GET LLEN"  # the fence, and the number of waiting events
LISTEN = f"BLPOP UNWATCH {LOOK}"
JOB = "HSET HSET RPUSH"  # RQ's own commands, for each batch

HEALTH = "ZCOUNT ZCOUNT ZCOUNT ZRANGE HGETALL ZCARD HGET"  # the batcher's health
COSTS = {
    # A producer.
    "an_event": cost("RPUSH"),
    "an_event_that_fills_a_batch": cost("RPUSH", "MULTI LREM RPUSH EXEC"),
    "an_event_with_an_id": cost("record", calls="ZSCORE ZRANGE RPUSH ZADD PEXPIRE"),
    "an_event_whose_id_was_seen": cost("record", calls="ZSCORE"),
    "an_event_within_a_bound": cost("record", calls="LLEN RPUSH"),
    "an_event_that_a_replica_is_to_have": cost("record WAIT", calls="RPUSH"),
    "a_thousand_events": cost("RPUSH MULTI LREM RPUSH EXEC"),
    "events_too_few_for_a_batch": cost("RPUSH"),
    "events_that_linger": cost("RPUSH"),
    "an_event_on_asyncio": cost("RPUSH"),
    "a_thousand_events_of_as_many_tasks": cost("RPUSH MULTI LREM RPUSH EXEC"),
    "an_event_with_an_id_on_asyncio": cost("record", calls="ZSCORE ZRANGE RPUSH ZADD PEXPIRE"),
    "an_event_for_eager_cutting": cost("record", calls="RPUSH LREM RPUSH"),
    "an_event_for_eager_cutting_when_others_wait": cost("record", calls="RPUSH"),
    "an_event_with_an_id_for_eager_cutting": cost(
        "record", calls="ZSCORE ZRANGE RPUSH ZADD PEXPIRE LREM RPUSH"
    ),
    "a_thousand_events_for_eager_cutting": cost("record", calls="RPUSH LREM RPUSH"),
    "a_stop": cost("MULTI HINCRBY LREM RPUSH EXEC"),
    "the_first_event_that_is_submitted": cost("MULTI XADD PEXPIRE EXEC", "RPUSH"),  # a stream for replies
    "an_event_that_is_submitted": cost("RPUSH"),
    "a_thousand_replies": cost("XREAD PEXPIRE XTRIM"),
    # The active scheduler.
    "a_tick_with_nothing_waiting": cost(LOOK, "UNWATCH"),
    "a_tick_that_cuts_all_that_waits": cost(
        LOOK,
        f"MULTI cut PEXPIRE SADD {JOB} EXEC",
        calls="LLEN TYPE*3 EXISTS*2 HMGET HINCRBY*2 MEMORY|USAGE ZADD RENAME LPUSH",
    ),
    "an_idle_cut": cost(
        f"{LISTEN} ZCOUNT",
        f"MULTI cut LLEN PEXPIRE SADD {JOB} EXEC",
        calls="LLEN TYPE*3 EXISTS*2 HMGET HINCRBY*2 MEMORY|USAGE ZADD RENAME LPUSH",
    ),
    "an_idle_word_without_room": cost(f"{LISTEN} ZCOUNT", "hold_back", calls="ZCOUNT SET"),
    "a_look_at_what_is_due_and_at_the_workers": cost(
        f"{LISTEN} ZCOUNT", "TIME", "clamp", f"due {HEALTH}", "SMEMBERS", calls="ZRANGE*6"
    ),
    "a_look_at_what_is_due": cost(LISTEN, "TIME", "clamp", f"due {HEALTH}", calls="ZRANGE*6"),
    "a_look_at_ten_batches_that_wait_for_a_worker": cost(
        LISTEN, "TIME", "clamp", f"due {HEALTH}", "LRANGE LRANGE", "reschedule",
        calls="ZRANGE*6 TYPE*10 LINDEX*20 LLEN*10 ZSCORE*10 ZADD*10",
    ),
    "a_pause_for_too_many_results": cost("XLEN"),
    # A worker, for one batch after another.
    "three_batches_in_a_queue": cost(
        "BLMOVE claim_next",
        *3 * ["commit HSET EXPIRE ZADD claim_next"],
        calls="LINDEX*4 TYPE*6 ZSCORE*3 LINDEX*3 ZADD*3 LSET*3 LPOP*3 LRANGE*3 "  # claim_next
        "EXISTS*6 TYPE*15 ZSCORE*3 HMGET*3 LLEN*3 HINCRBY*6 XADD*3 ZREM*6 UNLINK*3",  # commit
    ),
    "a_batch_with_replies_to_thirty_clients": cost(
        "BLMOVE claim_next", "commit HSET EXPIRE ZADD claim_next",
        calls="LINDEX*2 TYPE*2 ZSCORE LINDEX ZADD LSET LPOP LRANGE "  # claim_next
        "EXISTS*2 TYPE*5 ZSCORE HMGET LLEN HINCRBY*2 ZREM*2 UNLINK XADD*30",  # commit
    ),
    "an_idle_workers_chores": cost("MULTI HSET EXPIRE EXPIRE EXISTS EXEC"),  # RQ's own, once a second
    # A consumer.
    "twenty_results": cost(
        "XGROUP|CREATE", "XREADGROUP", "XAUTOCLAIM", "XINFO|CONSUMERS", "CLIENT|ID",  # joining
        *2 * ["XREADGROUP", "acknowledge"],  # for ten results each
        calls="XACK*2 XDEL*2 EXISTS*2",
    ),
    "twenty_results_on_asyncio": cost(
        "XGROUP|CREATE", "XREADGROUP", "XAUTOCLAIM", "XINFO|CONSUMERS", "CLIENT|ID",
        *2 * ["XREADGROUP", "acknowledge"],
        calls="XACK*2 XDEL*2 EXISTS*2",
    ),
    "a_leave": cost("leave_group", calls="EXISTS XPENDING XGROUP|DELCONSUMER"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Periodic work, which depends on the time and not on the load, is done once and then never again."""
    hurry(
        monkeypatch,
        reconcile_seconds=1e6,
        maintain_seconds=1e6,
        long_run_seconds=1e6,  # after this time, RQ is shown the run
        beat_seconds=1e6,
        acknowledge_seconds=1e6,  # so that a slow machine acknowledges no more often
        clock_seconds=1e6,
    )


class House:
    """All parts of one batcher in this process, run step by step on open connections."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._brokers: list[Broker] = []
        self.ticker = ManualTicker()
        for script in SCRIPTS:
            server.admin.script_load(script.text)

    def broker(self, **settings: Any) -> Broker:
        """A broker with two open connections, which has read the time."""
        # Leases, renewals and claims are so long that none is due.
        always = {"name": "letters", "lease_ttl": 600, "claim_after": 600, "max_size": MAX_SIZE}
        broker = Broker(Config(**{**always, "redis_url": self._server.url, **settings}))
        self._brokers.append(broker)
        pool = broker.server.client.connection_pool
        for connection in [pool.get_connection(), pool.get_connection()]:
            pool.release(connection)
        broker.clock.now_ms()
        return broker

    def batcher(self, linger: int | None = None, **settings: Any) -> MicroBatcher:
        broker = self.broker(**settings)
        return MicroBatcher(broker.config, broker=broker, linger=linger)

    def record(self, count: int) -> None:
        self.batcher().record_events(range(count))

    def on_asyncio(self, use: Callable[[AsyncMicroBatcher], Awaitable[None]], **settings: Any) -> None:
        """Use a client of asyncio with two open connections, which has read the time."""
        config = self.broker(**settings).config

        async def used() -> None:
            broker = AsyncBroker(config)
            async with AsyncMicroBatcher(config, broker=broker) as mb:
                for connection in [await broker.server.connected(), await broker.server.connected()]:
                    await broker.server.release(connection)
                await broker.server.perform(broker.time_source.reading())
                await use(mb)

        asyncio.run(used())

    def scheduler(self, **settings: Any) -> Scheduler:
        """The active scheduler, after its first step. It listens."""
        broker = self.broker(**settings)
        listener = ServerWakeListener(
            broker.server, broker.keys, block_seconds=0, counts_jobs=broker.config.eager
        )
        active = Scheduler(broker.config, broker=broker, ticker=self.ticker, listener=listener)
        self.ticker.tick()
        active.run_once()
        return active

    def worker(self, processor: Callable[[list[int]], object] = sum, **settings: Any) -> BatchWorker:
        """A worker without periodic chores."""
        broker = self.broker(batch_processor=processor, **settings)
        worker = BatchWorker(BatchRunner(broker.config, broker=broker), broker.server)
        worker._chores_at = float("inf")
        return worker

    def close(self) -> None:
        for broker in self._brokers:
            broker.close()


@pytest.fixture
def house(server: RealServer) -> Iterator[House]:
    house = House(server)
    yield house
    house.close()


Counted = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def counted(request: pytest.FixtureRequest, server: RealServer) -> Counted:
    """Check that the commands in the block are those that the table has for this test."""
    wanted = COSTS[request.node.originalname.removeprefix("test_")]

    @contextmanager
    def count() -> Iterator[None]:
        with wiretap(server) as said:
            yield
        assert said == wanted, f"it costs\n{said}\n\nand should cost\n{wanted}"

    return count


def test_an_event(house: House, counted: Counted) -> None:
    mb = house.batcher()
    with counted():
        mb.record_event("a")


def test_an_event_that_fills_a_batch(house: House, counted: Counted) -> None:
    mb = house.batcher()
    mb.record_events(range(MAX_SIZE - 1))
    with counted():
        mb.record_event("a")


def test_an_event_with_an_id(house: House, counted: Counted) -> None:
    mb = house.batcher(dedupe_window=60)
    with counted():
        mb.record_event("a", id="a")


def test_an_event_whose_id_was_seen(house: House, counted: Counted) -> None:
    mb = house.batcher(dedupe_window=60)
    mb.record_event("a", id="a")
    with counted():
        mb.record_event("a", id="a")


def test_an_event_within_a_bound(house: House, counted: Counted) -> None:
    mb = house.batcher(max_waiting=100)
    with counted():
        mb.record_event("a")


def test_an_event_that_a_replica_is_to_have(
    house: House, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, replica_ms=1)
    mb = house.batcher(durability="replicated")
    with counted(), pytest.raises(InDoubt, match="no replica"):
        mb.record_event("a")


def test_a_thousand_events(house: House, counted: Counted) -> None:
    mb = house.batcher()
    with counted():
        mb.record_events(range(1_000))


def test_events_too_few_for_a_batch(house: House, counted: Counted) -> None:
    mb = house.batcher()
    with counted():
        mb.record_events(range(MAX_SIZE - 1))


def test_events_that_linger(house: House, counted: Counted) -> None:
    mb = house.batcher(linger=60_000)
    with counted():
        for number in range(MAX_SIZE - 1):
            mb.record_event(number)
        mb.flush()
    mb.close()


def test_an_event_on_asyncio(house: House, counted: Counted) -> None:
    async def record(mb: AsyncMicroBatcher) -> None:
        with counted():
            await mb.record_event("a")

    house.on_asyncio(record)


def test_a_thousand_events_of_as_many_tasks(house: House, counted: Counted) -> None:
    async def record(mb: AsyncMicroBatcher) -> None:
        with counted():
            await asyncio.gather(*map(mb.record_event, range(1_000)))

    house.on_asyncio(record)


def test_an_event_with_an_id_on_asyncio(house: House, counted: Counted) -> None:
    async def record(mb: AsyncMicroBatcher) -> None:
        with counted():
            await mb.record_event("a", id="a")

    house.on_asyncio(record, dedupe_window=60)


def test_an_event_for_eager_cutting(house: House, counted: Counted) -> None:
    mb = house.batcher(eager=True)
    with counted():
        mb.record_event("a")


def test_an_event_for_eager_cutting_when_others_wait(house: House, counted: Counted) -> None:
    mb = house.batcher(eager=True)
    mb.record_events(range(MAX_SIZE - 1))
    with counted():
        mb.record_event("a")  # it fills a batch, which the scheduler need not be told


def test_an_event_with_an_id_for_eager_cutting(house: House, counted: Counted) -> None:
    mb = house.batcher(eager=True, dedupe_window=60)
    with counted():
        mb.record_event("a", id="a")


def test_a_thousand_events_for_eager_cutting(house: House, counted: Counted) -> None:
    mb = house.batcher(eager=True)
    with counted():
        mb.record_events(range(1_000))


def test_a_stop(house: House, counted: Counted) -> None:
    mb = house.batcher()
    with counted():
        mb.stop()


@pytest.fixture
def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads replies, beside what is counted."""
    monkeypatch.setattr(ReplyReader, "start", lambda _reader: None)


def submit(mb: MicroBatcher) -> None:
    """Submit an event, and return when it is sent."""
    mb.submit("a")
    assert mb._submitter is not None
    mb._submitter.wait_sent()


def test_the_first_event_that_is_submitted(house: House, counted: Counted, no_reader: None) -> None:
    mb = house.batcher(per_event=True)
    with counted():
        submit(mb)
    mb.close()


def test_an_event_that_is_submitted(house: House, counted: Counted, no_reader: None) -> None:
    mb = house.batcher(per_event=True)
    submit(mb)
    with counted():
        submit(mb)
    mb.close()


def test_a_thousand_replies(house: House, counted: Counted) -> None:
    worker = house.worker(list, per_event=True, max_size=1_000)
    broker = house.broker(per_event=True)
    client = Client(broker)
    client.submit(*range(1_000))
    house.scheduler(max_size=1_000)
    worker._take_turns()
    with counted():
        assert sorted(client.replies().values()) == list(range(1_000))


def test_a_batch_with_replies_to_thirty_clients(house: House, counted: Counted) -> None:
    worker = house.worker(list, per_event=True)
    clients = [Client(house.broker()) for _ in range(MAX_SIZE)]
    for client in clients:
        client.submit(5)
    house.scheduler()
    with counted():
        assert worker._take_turns() is None
    assert [client.replies() for client in clients] == [{1: 5}] * MAX_SIZE


def test_a_tick_with_nothing_waiting(house: House, counted: Counted) -> None:
    active = house.scheduler()
    house.ticker.tick()
    with counted():
        assert active.run_once() == 0


def test_a_tick_that_cuts_all_that_waits(house: House, counted: Counted) -> None:
    active = house.scheduler()
    house.record(MAX_SIZE - 1)
    house.ticker.tick()
    with counted():
        assert active.run_once() == 1


def test_an_idle_cut(house: House, counted: Counted) -> None:
    active = woken(house, Wake.IDLE, eager=True)
    house.batcher(eager=True).record_event("a")
    with counted():
        assert active.run_once() == 1


def test_an_idle_word_without_room(house: House, counted: Counted) -> None:
    active = woken(house, Wake.IDLE, eager=True)
    mb = house.batcher(eager=True)
    mb.record_event("a")
    active.run_once()
    mb.record_event("a")
    with counted():
        assert active.run_once() == 0


def test_a_look_at_what_is_due_and_at_the_workers(house: House, counted: Counted) -> None:
    active = woken(house, Wake.RECONCILE, eager=True)
    with counted():
        active.run_once()


def woken(house: House, word: Wake, **settings: Any) -> Scheduler:
    """The active scheduler, which was woken before, does not listen yet, and is woken again."""
    active = house.scheduler(**settings)
    wake = house.broker().wake
    wake.tell(word)
    active.run_once()
    wake.tell(word)
    return active


@pytest.mark.parametrize("batches", [2, 10, 250])
def test_full_batches(server: RealServer, house: House, batches: int) -> None:
    """One round trip to listen, and one to cut up to a hundred batches; two for each further hundred."""
    active = woken(house, Wake.SIZE)
    house.record(batches * MAX_SIZE)
    wanted = cost(LISTEN)
    for first in range(0, batches, 100):
        count = min(100, batches - first)
        chunks = count if first else count + 1  # a scheduler's first read of events is short
        wanted += cost(
            *([LOOK] if first else []),
            " ".join(["MULTI cut PEXPIRE SADD", *count * [JOB], "EXEC"]),
            calls=f"TYPE*3 EXISTS LLEN HMGET HINCRBY*2 LTRIM EXISTS*{count} ZADD*{count} "
            f"RPUSH*{count + chunks} LRANGE*{chunks}",
        )
    with wiretap(server) as said:
        assert active.run_once() == batches
    assert said == wanted, f"it costs\n{said}\n\nand should cost\n{wanted}"


def test_a_look_at_what_is_due(house: House, counted: Counted) -> None:
    active = woken(house, Wake.RECONCILE)
    with counted():
        active.run_once()


def test_a_look_at_ten_batches_that_wait_for_a_worker(
    house: House, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, look_again_ms=-1_000)  # they are due at once, and stay due
    house.record(10 * MAX_SIZE)
    active = woken(house, Wake.RECONCILE)
    with counted():
        active.run_once()


def test_a_pause_for_too_many_results(house: House, counted: Counted) -> None:
    active = house.scheduler(results_max=1)
    house.record(2 * MAX_SIZE)
    house.ticker.tick()
    active.run_once()
    house.worker()._take_turns()
    house.ticker.tick()
    active.run_once()
    house.ticker.tick()
    with counted():
        active.run_once()


def test_three_batches_in_a_queue(house: House, counted: Counted) -> None:
    worker = house.worker()
    house.record(3 * MAX_SIZE)
    house.scheduler()
    with counted():
        assert worker._take_turns() is None


def test_an_idle_workers_chores(house: House, counted: Counted) -> None:
    worker = house.worker()
    worker._chores_at = 0
    worker._do_chores()  # the first time includes RQ's maintenance, which is rarer
    worker._chores_at = 0
    with counted():
        worker._do_chores()


def test_twenty_results(house: House, counted: Counted) -> None:
    house.record(20 * MAX_SIZE)
    house.scheduler()
    house.worker()._take_turns()
    results: list[int] = []

    def handle(result: int) -> None:
        results.append(result)
        if len(results) == 20:
            consumer.quit()

    consumer = Consumer(house.broker(result_handler=handle))
    with counted():
        consumer.run(None)


def test_twenty_results_on_asyncio(house: House, counted: Counted) -> None:
    house.record(20 * MAX_SIZE)
    house.scheduler()
    house.worker()._take_turns()
    results: list[int] = []

    async def handle(result: int) -> None:
        results.append(result)
        if len(results) == 20:
            told[0].stop_consuming()

    told: list[AsyncMicroBatcher] = []

    async def consume(mb: AsyncMicroBatcher) -> None:
        told.append(mb)
        with counted():
            assert not await mb.wait_for_results()

    house.on_asyncio(consume, result_handler=handle)


def test_a_leave(house: House, counted: Counted) -> None:
    consumer = Consumer(house.broker())
    consumer.run(0.5)  # it joins, however slow the machine is
    with counted():
        consumer.leave()


def test_each_row_of_the_table_has_its_test() -> None:
    assert {f"test_{row}" for row in COSTS} <= globals().keys()
