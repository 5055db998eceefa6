"""The scheduler, step by step: when it cuts, what it cuts, and which jobs it makes."""

from __future__ import annotations

from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import Wakeup
from microbatch.broker.wire.header import Trigger
from microbatch.scheduler.scheduler import Scheduler
from microbatch.scheduler.ticker import GridTicker
from tests.doubles import ManualClock, ManualTicker, ManualWakeListener
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient, batches_of, check_account, client_of, due, record

SIZE, TICK, FLUSH = Trigger.SIZE, Trigger.TICK, Trigger.FLUSH
QUEUE = "rq:queue:mb:letters"


class Stand:
    """A scheduler with batches of ten, and the doubles that drive it."""

    def __init__(self, broker: Broker, clock: ManualClock, ticker: Any = None) -> None:
        self.broker = broker
        self.clock = clock
        self.ticker = ManualTicker()
        self.listener = ManualWakeListener()
        self.scheduler = Scheduler(
            broker.config, broker=broker, clock=clock, ticker=ticker or self.ticker, listener=self.listener
        )

    def step(self, word: Wake | None = None) -> int:
        if word is not None:
            self.listener.wake(word)
        made = self.scheduler.run_once()
        check_account(self.broker)
        return made


@pytest.fixture
def stand(make_broker: MakeBroker, clock: ManualClock) -> Stand:
    return Stand(make_broker(max_size=10), clock)


def jobs(client: FakeClient) -> list[Job]:
    """The jobs on the queue, in order."""
    return [
        Job.fetch(job_id.decode(), connection=client, serializer=JSONSerializer)
        for job_id in client.lrange(QUEUE, 0, -1)
    ]


@pytest.mark.parametrize(
    ("waiting", "full", "over"),
    [(0, 0, 0), (1, 0, 1), (9, 0, 9), (10, 1, 0), (11, 1, 1), (103, 10, 3), (1_007, 100, 7), (2_543, 254, 3)],
)
@pytest.mark.parametrize("reason", ["none", "size", "look", "tick", "flush", "tick and flush"])
def test_what_is_cut(stand: Stand, waiting: int, full: int, over: int, reason: str) -> None:
    if waiting:
        record(stand.broker, *range(waiting))
    if "tick" in reason:
        stand.ticker.tick()
    words = {"size": Wake.SIZE, "look": Wake.RECONCILE, "flush": Wake.FLUSH, "tick and flush": Wake.FLUSH}
    rest = FLUSH if "flush" in reason else TICK if "tick" in reason else None

    made = stand.step(words.get(reason))

    expected = [(SIZE, list(range(i * 10, i * 10 + 10))) for i in range(full)]
    if over and rest:
        expected.append((rest, list(range(waiting - over, waiting))))
    assert batches_of(stand.broker) == expected
    assert made == len(expected)
    assert stand.broker.events.waiting() == (0 if rest else over)
    counters = stand.broker.stats.counters()
    assert counters.cut_batches == len(expected)
    assert len(jobs(client_of(stand.broker))) == len(expected)
    assert stand.step() == 0  # nothing is cut twice


def test_no_batch_is_ever_empty(stand: Stand) -> None:
    for _ in range(3):
        stand.ticker.tick()
        assert stand.step(Wake.FLUSH) == 0
    assert stand.broker.ledger.in_flight() == []
    assert not client_of(stand.broker).exists(QUEUE)


def test_each_batch_has_a_job_that_carries_its_id_and_no_event(stand: Stand, client: FakeClient) -> None:
    record(stand.broker, *[f"secret {i}" for i in range(11)])
    stand.step(Wake.FLUSH)
    first, second = jobs(client)
    assert {first.id, second.id} == set(stand.broker.ledger.in_flight())
    assert first.id != second.id
    for job in (first, second):
        assert job.func_name == "microbatch.worker.job.run_batch"
        assert job.args == ["letters", job.id]
        assert job.kwargs == {}
        assert job.timeout == stand.broker.config.batch_timeout
        assert job.ttl is None  # otherwise a worker would drop a job that has waited long
        assert job.result_ttl == 10
        raw = client.hgetall(f"rq:job:{job.id}")
        assert not [value for value in raw.values() if b"secret" in value]
    assert first.description == "letters: a batch of 10 events, cut by size"
    assert second.description == "letters: a batch of 1 event, cut by flush"
    assert client.smembers("rq:queues") == {QUEUE.encode()}


def test_jobs_are_queued_in_the_order_of_their_events(stand: Stand, client: FakeClient) -> None:
    record(stand.broker, *range(35))
    stand.step(Wake.FLUSH)
    keys = [stand.broker.keys.batch(job.id) for job in jobs(client)]
    firsts = [int(client.lindex(key, 2)[12:]) for key in keys]
    assert firsts == [0, 10, 20, 30]


def test_a_header_tells_the_time_of_the_cut(stand: Stand, client: FakeClient) -> None:
    record(stand.broker, 1)
    stand.clock.advance(77)
    stand.step(Wake.FLUSH)
    (batch,) = due(stand.broker, stand.clock.ms + 60_000)
    assert batch.header.cut_at_ms == stand.clock.ms


def test_an_early_cut_does_not_move_the_next_tick(make_broker: MakeBroker) -> None:
    clock = ManualClock(10_300)
    stand = Stand(make_broker(max_size=10), clock, GridTicker(1_000))
    stand.step()
    record(stand.broker, *range(12))
    assert stand.step(Wake.SIZE) == 1
    clock.ms = 10_600
    record(stand.broker, 12)
    assert stand.step(Wake.FLUSH) == 1
    record(stand.broker, 13)
    clock.ms = 10_999
    assert stand.step() == 0
    clock.ms = 11_000
    assert stand.step() == 1
    assert [(trigger, len(events)) for trigger, events in batches_of(stand.broker)] == [
        (SIZE, 10), (FLUSH, 3), (TICK, 1),
    ]  # fmt: skip
    record(stand.broker, 14)
    clock.ms = 11_999
    assert stand.step() == 0


def test_a_flush_at_a_tick_is_that_tick(stand: Stand) -> None:
    stand.ticker.tick()
    record(stand.broker, 1)
    assert stand.step(Wake.FLUSH) == 1
    record(stand.broker, 2)
    assert stand.step() == 0


def test_it_waits_no_longer_than_to_the_next_tick(make_broker: MakeBroker) -> None:
    clock = ManualClock(10_000)
    stand = Stand(make_broker(), clock, GridTicker(1_000))
    stand.step()
    clock.ms = 10_900
    stand.step()
    assert stand.listener.waits[-1] == pytest.approx(0.1)
    clock.ms = 11_250
    stand.step()
    assert stand.listener.waits[-1] == 0


def test_a_tick_that_comes_during_the_wait_is_not_missed(make_broker: MakeBroker) -> None:
    clock = ManualClock(10_900)
    stand = Stand(make_broker(), clock, GridTicker(1_000))
    record(stand.broker, 1)
    wait = stand.listener.wait

    def wait_long(seconds: float) -> Wakeup | None:
        clock.advance(5_000)
        return wait(seconds)

    stand.listener.wait = wait_long  # type: ignore[method-assign]
    assert stand.step() == 1


def test_the_active_scheduler_publishes_the_settings(stand: Stand, client: FakeClient) -> None:
    stand.step()
    assert stand.scheduler.active
    assert stand.broker.published_config() == {"frequency": 1000, "max_size": 10, "max_in_flight": 1000}
    assert client.zcard(stand.broker.keys.schedulers) == 1


def test_a_lease_that_is_lost_cuts_nothing(stand: Stand, client: FakeClient) -> None:
    stand.step()
    record(stand.broker, *range(25))
    client.set(stand.broker.keys.lease, "host:2:other")
    with pytest.raises(LeaseLost):
        stand.step(Wake.FLUSH)
    assert stand.broker.events.waiting() == 25
    assert stand.broker.ledger.in_flight() == []
    assert not client.exists(QUEUE)


def test_a_batch_that_got_lost_is_looked_after(stand: Stand, client: FakeClient) -> None:
    record(stand.broker, 1)
    stand.step(Wake.FLUSH)
    (batch_id,) = stand.broker.ledger.in_flight()
    client.delete(QUEUE)
    stand.clock.advance(8_000)
    stand.scheduler._reconciling.bring_forward()
    stand.step()
    assert [job.id for job in jobs(client)] == [batch_id]


def test_the_counters_are_marked_for_rates(stand: Stand) -> None:
    record(stand.broker, *range(10))
    stand.step()
    stand.clock.advance(2_000)
    record(stand.broker, *range(10))
    assert stand.broker.stats.rates(stand.clock.ms).recorded == 5


def test_finished_jobs_that_have_expired_are_forgotten(stand: Stand, client: FakeClient) -> None:
    client.zadd("rq:finished:mb:letters", {"expired": 1, "kept": 4_102_444_800})
    stand.step()
    assert client.zrange("rq:finished:mb:letters", 0, -1) == [b"kept"]
