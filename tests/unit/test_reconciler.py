"""The reconciler: a batch that stands still is run, and a batch that is being run is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.claims import claim_of
from microbatch.broker.state.fence import Fence
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import new_batch
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import RunRecord
from microbatch.scheduler import reconciler
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.reconciler import Reconciler
from tests.doubles import ManualClock, set_time
from tests.unit.conftest import MakeBroker
from tests.unit.steps import (
    RECORDED_AT_MS,
    TOKEN,
    FakeClient,
    check_account,
    claim,
    client_of,
    cut,
    due,
    lease_of,
    record,
    retry,
)

QUEUE = "rq:queue:mb:letters"
INTERMEDIATE = "rq:queue:mb:letters:intermediate"
LOOK_AGAIN_MS, ON_THE_WAY_MS = Timing.look_again_ms, Timing.on_the_way_ms


class Stand:
    """A reconciler whose scheduler is active, and one batch that was cut and enqueued."""

    def __init__(self, broker: Broker, clock: ManualClock) -> None:
        self.broker = broker
        self.clock = clock
        self.client: FakeClient = client_of(broker)
        self.client.set(broker.keys.lease, TOKEN)
        queue = JobQueue(broker.config, broker.server)
        queue.prepare()
        self.lease = broker.lease()
        self.lease.token = TOKEN
        self.gates = Gates(broker)
        self.reconciler = Reconciler(broker, queue, self.lease, self.gates)
        record(broker, "a", "b")
        batch = new_batch(Header(Trigger.TICK, 2, clock.ms))
        with lease_of(broker).fence() as fence:
            fence.cut([batch], queue.to_enqueue([batch]), due_ms=clock.ms + LOOK_AGAIN_MS)
        self.id = batch.id

    def after(self, by_ms: int) -> int:
        """Advance the clock, and let the reconciler work. Returns how many batches it enqueued again."""
        self.clock.advance(by_ms)
        acted = self.reconciler.run_once()
        check_account(self.broker)
        return acted

    def dequeue(self) -> None:
        """Take the job off the queue as a worker does: its id is in a separate list until the job begins."""
        assert self.client.lmove(QUEUE, INTERMEDIATE, "RIGHT", "LEFT") == self.id.encode()

    def begin(self) -> None:
        self.client.lrem(INTERMEDIATE, 1, self.id)

    def queued(self) -> list[str]:
        return [raw.decode() for raw in self.client.lrange(QUEUE, 0, -1)]

    def on_the_way(self) -> list[bytes]:
        on_the_way: list[bytes] = self.client.lrange(INTERMEDIATE, 0, -1)
        return on_the_way

    def run_record(self) -> RunRecord:
        return RunRecord.decode(self.client.lindex(self.broker.keys.batch(self.id), 1))


@pytest.fixture
def clock() -> ManualClock:
    """A clock that can be set back by an hour."""
    return ManualClock(1_700_000_000_000)


@pytest.fixture
def stand(make_broker: MakeBroker, clock: ManualClock) -> Stand:
    return Stand(make_broker(max_worker_deaths=1, isolate_failures=False), clock)


def test_a_batch_that_waits_in_the_queue_is_left_alone(stand: Stand) -> None:
    for _ in range(3):
        assert stand.after(LOOK_AGAIN_MS) == 0
        assert stand.queued() == [stand.id]
    assert due(stand.broker, stand.clock.ms + LOOK_AGAIN_MS - 1) == []


def test_nothing_is_looked_at_before_it_is_due(stand: Stand) -> None:
    stand.client.delete(QUEUE)
    assert stand.after(LOOK_AGAIN_MS - 1) == 0
    assert stand.queued() == []
    assert stand.after(1) == 1


def test_a_job_that_is_gone_is_enqueued_again(stand: Stand) -> None:
    stand.client.delete(QUEUE, f"rq:job:{stand.id}")
    assert stand.after(LOOK_AGAIN_MS) == 1
    assert stand.queued() == [stand.id]
    job = Job.fetch(stand.id, connection=stand.client, serializer=JSONSerializer)
    assert job.args == ["letters", stand.id]
    assert job.description == "letters: a batch of 2 events, cut by tick"
    assert stand.run_record() == RunRecord()
    assert stand.after(0) == 0
    assert stand.after(LOOK_AGAIN_MS) == 0


def test_a_batch_at_work_is_left_alone(stand: Stand) -> None:
    stand.dequeue()
    claimed = claim(stand.broker, stand.id)
    stand.begin()
    for _ in range(3):
        stand.broker.claims.renew(claim_of(claimed), due_ms=stand.clock.ms + 8_000)
        assert stand.after(7_999) == 0
    assert stand.queued() == []
    assert stand.run_record() == claimed.run


def test_a_batch_whose_worker_went_silent_is_enqueued_again(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.dequeue()
    claim(stand.broker, stand.id, owner="host:7:ab")
    stand.begin()
    assert stand.after(8_000) == 1
    assert stand.queued() == [stand.id]
    assert stand.run_record() == RunRecord(runs=1, deaths=1, since_ms=stand.clock.ms)
    assert f"letters: batch {stand.id}: its worker host:7:ab has gone silent" in caplog.text
    job = Job.fetch(stand.id, connection=stand.client, serializer=JSONSerializer)
    assert job.description == "letters: a batch of 2 events, cut by tick, attempt 2"


def test_what_had_a_worker_goes_before_all_that_wait(stand: Stand) -> None:
    stand.dequeue()
    claim(stand.broker, stand.id)
    stand.begin()
    stand.client.rpush(QUEUE, "first", "second")
    assert stand.after(8_000) == 1
    assert stand.queued() == [stand.id, "first", "second"]


def test_what_has_lost_its_job_goes_before_all_that_wait(stand: Stand) -> None:
    stand.client.delete(QUEUE)
    stand.client.rpush(QUEUE, "first", "second")
    assert stand.after(LOOK_AGAIN_MS) == 1
    assert stand.queued() == [stand.id, "first", "second"]


def test_what_is_tried_again_waits_for_its_turn(stand: Stand) -> None:
    stand.dequeue()
    assert retry(stand.broker, claim(stand.broker, stand.id), due_ms=stand.clock.ms)
    stand.begin()
    stand.client.rpush(QUEUE, "first", "second")
    assert stand.after(0) == 1
    assert stand.queued() == ["first", "second", stand.id]


def test_a_batch_that_kills_its_workers_is_buried(stand: Stand) -> None:
    for attempt in (1, 2):
        stand.dequeue()
        assert claim(stand.broker, stand.id, owner=f"host:{attempt}:ab").run.attempt == attempt
        stand.begin()
        assert stand.after(8_000) == 1
    assert stand.queued() == []
    assert stand.broker.ledger.in_flight() == []
    assert len(stand.broker.dead.events(stand.id)) == 2
    ((_, fields),) = stand.client.xrange(stand.broker.keys.results)
    outcome = Outcome.decode(fields)
    assert outcome.failure is not None
    assert (outcome.batch_id, outcome.attempt, outcome.recorded_at_ms) == (stand.id, 2, RECORDED_AT_MS)
    assert outcome.failure.error == "its worker host:2:ab died or went silent while running it"
    assert outcome.failure.traceback == ""
    assert stand.after(60_000) == 0


def test_a_retry_is_enqueued_when_its_delay_is_over(stand: Stand) -> None:
    stand.dequeue()
    claimed = claim(stand.broker, stand.id)
    stand.begin()
    then = retry(stand.broker, claimed, due_ms=stand.clock.ms + 3_000)
    assert stand.after(2_999) == 0
    assert stand.queued() == []
    assert stand.after(1) == 1
    assert stand.queued() == [stand.id]
    assert stand.run_record() == then


def test_a_job_on_the_way_to_a_worker_has_some_time_to_arrive(stand: Stand) -> None:
    stand.clock.advance(LOOK_AGAIN_MS)
    stand.dequeue()
    assert stand.after(0) == 0
    assert stand.after(ON_THE_WAY_MS - 1) == 0
    assert stand.queued() == []
    assert stand.after(1) == 1
    assert stand.queued() == [stand.id]
    assert stand.on_the_way() == []


def test_a_job_on_the_way_is_not_forgotten_over_others(stand: Stand) -> None:
    stand.clock.advance(LOOK_AGAIN_MS)
    stand.dequeue()
    assert stand.after(0) == 0
    record(stand.broker, "c")
    claim(stand.broker, cut(stand.broker, 1)[0].id, ttl_ms=1_000)
    assert stand.after(1_000) == 1  # the other's worker went silent
    assert stand.after(ON_THE_WAY_MS - 1_000) == 1
    assert stand.id in stand.queued()


def test_a_job_that_was_on_the_way_before_has_its_time_anew(stand: Stand) -> None:
    stand.clock.advance(LOOK_AGAIN_MS)
    stand.dequeue()
    assert stand.after(0) == 0
    stand.client.delete(INTERMEDIATE)
    assert stand.after(ON_THE_WAY_MS) == 1  # it was lost on the way
    stand.dequeue()
    assert stand.after(LOOK_AGAIN_MS) == 0
    assert stand.after(ON_THE_WAY_MS) == 1


def test_a_committed_batch_is_left_alone(stand: Stand) -> None:
    stand.broker.ledger.commit(stand.id)
    assert stand.after(60_000) == 0
    assert stand.queued() == [stand.id]  # a worker finds that there is nothing to do


def test_a_former_leader_enqueues_nothing(stand: Stand) -> None:
    stand.client.delete(QUEUE)
    stand.client.set(stand.broker.keys.lease, "host:2:other")
    with pytest.raises(LeaseLost):
        stand.after(LOOK_AGAIN_MS)
    assert stand.queued() == []


def test_a_former_leader_gives_nothing_up(stand: Stand) -> None:
    stand.broker.ledger.commit(stand.id)
    record(stand.broker, "c")
    (batch,) = cut(stand.broker, 1)
    claim(stand.broker, batch.id)
    assert stand.after(8_000) == 1
    assert claim(stand.broker, batch.id).run.deaths == 1
    stand.clock.advance(8_000)
    stand.client.set(stand.broker.keys.lease, "host:2:other")
    with pytest.raises(LeaseLost):
        stand.after(0)
    assert stand.broker.ledger.in_flight() == [batch.id]


def transactions(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The remaining time of the lease after each transaction that enqueues, in ms."""
    left: list[int] = []
    enqueue_again = Fence.enqueue_again

    def enqueue_and_note(fence: Fence, *args: Any, **options: Any) -> Any:
        enqueued = enqueue_again(fence, *args, **options)
        left.append(stand.client.pttl(stand.broker.keys.lease))
        stand.client.pexpire(stand.broker.keys.lease, 100_000)
        return enqueued

    monkeypatch.setattr(Fence, "enqueue_again", enqueue_and_note)
    return left


def test_many_are_enqueued_again_in_few_transactions_that_keep_the_lease(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(stand.broker, *range(249))
    ids = {stand.id} | {batch.id for batch in cut(stand.broker, *[1] * 249)}
    stand.client.delete(QUEUE)
    left = transactions(stand, monkeypatch)
    assert stand.after(LOOK_AGAIN_MS) == 250
    assert sorted(stand.queued()) == sorted(ids)
    assert len(left) == 3
    assert min(left) > 500_000
    assert stand.after(LOOK_AGAIN_MS - 1) == 0


def test_many_that_are_given_up_keep_the_lease_and_leave_some_for_later(
    make_broker: MakeBroker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(make_broker(max_worker_deaths=0), clock)
    record(stand.broker, *range(150))
    poison = {batch.id for batch in cut(stand.broker, *[1] * 150)}
    for batch_id in poison:
        claim(stand.broker, batch_id)
    stand.client.delete(QUEUE)
    bury, left = stand.broker.ledger.bury, []

    def take_long(*args: Any, **options: Any) -> bool:
        left.append(stand.client.pttl(stand.broker.keys.lease))
        stand.client.pexpire(stand.broker.keys.lease, 100_000)
        return bury(*args, **options)

    monkeypatch.setattr(stand.broker.ledger, "bury", take_long)
    assert stand.after(8_000) == 101  # the batch that has lost its job does not wait for them
    assert stand.queued() == [stand.id]
    assert stand.after(500) == 50
    assert len(left) == 150
    assert min(left) > 500_000
    assert set(stand.broker.ledger.in_flight()) == {stand.id}


def test_a_job_that_a_batch_has_no_need_of_any_more_finds_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    record(stand.broker, "c")
    (other,) = cut(stand.broker, 1)
    stand.client.delete(QUEUE)
    look = stand.broker.recovery.survey

    def look_and_be_late(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        assert stand.broker.ledger.commit(stand.id)
        return found

    monkeypatch.setattr(stand.broker.recovery, "survey", look_and_be_late)
    stand.after(LOOK_AGAIN_MS)
    assert sorted(stand.queued()) == sorted([stand.id, other.id])
    assert stand.broker.ledger.in_flight() == [other.id]
    assert f"batch {other.id}: enqueued again" in caplog.text
    assert f"batch {stand.id}: enqueued again" not in caplog.text


HOUR_MS = 3_600_000


def test_a_worker_that_dies_when_the_clock_is_set_back_is_noticed(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.dequeue()
    dead = claim(stand.broker, stand.id, owner="host:7:ab")
    stand.begin()
    assert stand.after(-HOUR_MS) == 0
    assert f"due implausibly late, and looked at sooner now: 1 ({stand.id})" in caplog.text
    assert stand.run_record() == dead.run
    assert stand.after(7_999) == 0
    assert stand.after(1) == 1
    assert stand.queued() == [stand.id]
    assert stand.run_record() == RunRecord(runs=1, deaths=1, since_ms=stand.clock.ms)


def test_a_worker_that_lives_on_when_the_clock_is_set_back_keeps_its_batch(stand: Stand) -> None:
    stand.dequeue()
    claimed = claim(stand.broker, stand.id)
    stand.begin()
    assert stand.after(-HOUR_MS) == 0
    for _ in range(5):
        assert stand.after(2_000) == 0
        assert stand.broker.claims.renew(claim_of(claimed), due_ms=stand.clock.ms + 8_000)
    assert stand.queued() == []
    assert stand.run_record() == claimed.run


class CountingOn(ManualClock):
    """A clock that stands still until it must read the server's time again."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.ms)
        self._seen = clock.ms

    def now_ms(self) -> int:
        return self._seen

    def look_again(self) -> None:
        self._seen = self.ms


def test_a_worker_that_sees_first_that_the_clock_was_set_back_keeps_its_batch(
    make_broker: MakeBroker, clock: ManualClock
) -> None:
    broker = make_broker()
    broker.clock = clock = CountingOn(clock)
    stand = Stand(broker, clock)
    stand.dequeue()
    claimed = claim(broker, stand.id)
    stand.begin()
    assert broker.claims.renew(claim_of(claimed), due_ms=clock.ms - HOUR_MS + 8_000)
    assert stand.after(-HOUR_MS) == 0
    assert stand.run_record() == claimed.run
    assert stand.after(8_000) == 1


def test_a_job_that_is_lost_when_the_clock_is_set_back_is_made_up_for(stand: Stand) -> None:
    stand.client.delete(QUEUE)
    assert stand.after(-HOUR_MS) == 0
    assert stand.after(LOOK_AGAIN_MS) == 1
    assert stand.queued() == [stand.id]


def test_a_retry_is_late_by_its_longest_delay_at_most_when_the_clock_is_set_back(
    make_broker: MakeBroker, clock: ManualClock
) -> None:
    stand = Stand(make_broker(retry_delay=100.0, max_retry_delay=100.0), clock)
    stand.dequeue()
    claimed = claim(stand.broker, stand.id)
    stand.begin()
    assert retry(stand.broker, claimed, due_ms=stand.clock.ms + 110_000)
    assert stand.after(0) == 0  # nobody has changed the clock: it waits for as long as it was told to
    assert stand.after(-HOUR_MS) == 0
    assert stand.after(124_999) == 0
    assert stand.after(1) == 1
    assert stand.queued() == [stand.id]


def test_the_wait_for_a_job_on_the_way_ends_though_the_clock_is_set_back(stand: Stand) -> None:
    stand.clock.advance(LOOK_AGAIN_MS)
    stand.dequeue()
    assert stand.after(0) == 0
    stand.client.zadd(stand.broker.keys.inflight, {stand.id: 0})
    assert stand.after(-5_000) == 0
    assert stand.after(ON_THE_WAY_MS) == 1


def test_a_batch_of_what_is_no_event_is_looked_after_as_well(
    make_broker: MakeBroker, clock: ManualClock
) -> None:
    broker = make_broker()
    client_of(broker).rpush(broker.keys.events, "pushed by hand")
    stand = Stand(broker, clock)
    stand.client.delete(QUEUE)
    (batch,) = due(broker, clock.ms + LOOK_AGAIN_MS)
    assert claim(broker, stand.id).recorded_at_ms == batch.header.cut_at_ms
    assert stand.after(LOOK_AGAIN_MS) == 1
    assert stand.queued() == [stand.id]


def test_workers_have_some_seconds_to_show_themselves_when_a_scheduler_becomes_active(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have been away. Then no worker could send a heartbeat, however healthy it is."""
    stand.dequeue()
    claim(stand.broker, stand.id)
    stand.begin()
    now = 1_000.0
    set_time(monkeypatch, reconciler, monotonic=lambda: now)
    stand.reconciler.begin()
    now += Timing.first_sign_seconds - 0.1
    assert stand.after(60_000) == 0
    now += 0.1
    assert stand.after(0) == 1
    assert stand.queued() == [stand.id]
