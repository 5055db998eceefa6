"""Eager cutting: what waits is cut as soon as there is room for a batch, without a tick."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError, Unavailable
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.header import Trigger
from microbatch.producer.linger import Buffer
from microbatch.producer.recorder import Recorder
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.room import Room
from tests.doubles import ManualClock
from tests.unit.conftest import MakeBroker
from tests.unit.flow import Flow
from tests.unit.steps import FakeClient, batches_of, client_of, record
from tests.unit.test_scheduler import Stand

SIZE, TICK, FLUSH, IDLE = Trigger.SIZE, Trigger.TICK, Trigger.FLUSH, Trigger.IDLE
WORKERS = "rq:workers:mb:letters"


def words(broker: Broker) -> list[bytes]:
    found: list[bytes] = client_of(broker).lrange(broker.keys.wake, 0, -1)
    return found


def with_workers(broker: Broker, count: int) -> None:
    """Make RQ's registry have this many workers."""
    client = client_of(broker)
    client.delete(WORKERS)
    if count:
        client.sadd(WORKERS, *(f"rq:worker:{number}" for number in range(count)))


def end_one(broker: Broker) -> None:
    """End the batch whose id sorts first."""
    assert broker.ledger.commit(broker.ledger.in_flight()[0])


@pytest.fixture
def stand(make_broker: MakeBroker, clock: ManualClock) -> Stand:
    """An active scheduler with batches of ten at most, and two of them for the one worker."""
    broker = make_broker(max_size=10, eager=True, max_in_flight="2*workers")
    with_workers(broker, 1)
    stand = Stand(broker, clock)
    stand.step()
    return stand


def look_at_workers(stand: Stand, count: int) -> int:
    """Change the number of workers, and take a step in which the scheduler sees that."""
    with_workers(stand.broker, count)
    stand.scheduler._reconciling.bring_forward()
    return stand.step()


# recording


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_waiting": 100}, {"dedupe_window": 60}, {"max_waiting": 100, "dedupe_window": 60}],
    ids=str,
)
def test_the_first_event_wakes_the_scheduler_and_the_next_do_not(
    make_broker: MakeBroker, settings: dict[str, Any]
) -> None:
    broker = make_broker(eager=True, max_size=2, **settings)
    recorder = Recorder(broker)
    recorder.record([b"1", b"2", b"3"])
    assert words(broker) == [b"idle"]
    client_of(broker).delete(broker.keys.wake)
    recorder.record([b"4"])
    recorder.record_chunks([[b"5"], [b"6", b"7"]], ahead=True)
    recorder.record_stamped([b"1%011x8" % 1])
    assert words(broker) == []
    assert broker.events.waiting() == 8
    assert recorder.recorded == 8


def test_the_word_is_on_the_list_once(make_broker: MakeBroker) -> None:
    broker = make_broker(eager=True)
    for _ in range(3):
        record(broker, 1)
        client_of(broker).delete(broker.keys.events)
    assert words(broker) == [b"idle"]


def test_an_event_that_is_not_recorded_leaves_no_word(make_broker: MakeBroker) -> None:
    broker = make_broker(eager=True, dedupe_window=60)
    recorder = Recorder(broker)
    recorder.record([b"1"], "id")
    client_of(broker).delete(broker.keys.wake, broker.keys.events)
    recorder.record([b"1"], "id")
    assert (words(broker), broker.events.waiting()) == ([], 0)


def test_a_word_that_can_not_be_left_keeps_no_event_from_being_recorded(make_broker: MakeBroker) -> None:
    broker = make_broker(eager=True)
    client_of(broker).set(broker.keys.wake, "no list")
    record(broker, 1)
    assert broker.events.waiting() == 1


def test_without_eager_no_word_is_left(make_broker: MakeBroker) -> None:
    broker = make_broker(dedupe_window=60)
    Recorder(broker).record([b"1"])
    Recorder(broker).record([b"1"], "id")
    assert words(broker) == []


@pytest.mark.parametrize(("eager", "linger", "told"), [(True, 101, 1), (True, 100, 0), (False, 60_000, 0)])
def test_a_long_linger_beside_eager_cutting_is_told(
    make_broker: MakeBroker, caplog: pytest.LogCaptureFixture, eager: bool, linger: int, told: int
) -> None:
    broker = make_broker(eager=eager)
    with caplog.at_level(logging.WARNING):
        Buffer("letters", Recorder(broker), linger, broker.timing)
    assert len(caplog.messages) == told


# cutting


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(1, [(IDLE, 1)]), (9, [(IDLE, 9)]), (10, [(SIZE, 10)]), (13, [(SIZE, 10), (IDLE, 3)])],
)
@pytest.mark.parametrize("word", [*Wake, None])
def test_what_waits_is_cut_at_any_look(
    stand: Stand, word: Wake | None, waiting: int, expected: list[tuple[Trigger, int]]
) -> None:
    record(stand.broker, *range(waiting))
    stand.step(word)
    found = [(trigger, len(events)) for trigger, events in batches_of(stand.broker)]
    assert found == [(FLUSH if word is Wake.FLUSH and t is IDLE else t, size) for t, size in expected]
    assert stand.broker.events.waiting() == 0


def test_a_tick_is_still_a_tick(stand: Stand) -> None:
    record(stand.broker, 1)
    stand.ticker.tick()
    stand.step()
    assert batches_of(stand.broker) == [(TICK, [1])]


def test_a_scheduler_without_eager_leaves_the_events_to_the_tick(
    make_broker: MakeBroker, clock: ManualClock
) -> None:
    record(make_broker(eager=True), 1, 2, 3)
    stand = Stand(make_broker(max_size=2), clock)
    assert stand.step(Wake.IDLE) == 1
    assert stand.broker.events.waiting() == 1
    stand.ticker.tick()
    assert stand.step() == 1


def test_batches_grow_while_all_workers_are_busy(stand: Stand) -> None:
    for event in range(7):
        record(stand.broker, event)
        stand.step(Wake.IDLE)
    assert [events for _, events in batches_of(stand.broker)] == [[0], [1]]
    client_of(stand.broker).delete(stand.broker.keys.wake)
    end_one(stand.broker)
    assert words(stand.broker) == [b"room"]
    stand.step(Wake.ROOM)
    assert batches_of(stand.broker)[-1] == (IDLE, [2, 3, 4, 5, 6])


def test_when_there_is_room_full_batches_are_cut_first(stand: Stand) -> None:
    for event in range(25):
        record(stand.broker, event)
        stand.step(Wake.IDLE)
    end_one(stand.broker)
    stand.step(Wake.ROOM)
    end_one(stand.broker)
    stand.step(Wake.ROOM)
    assert stand.broker.stats.counters().cut_events == 1 + 1 + 10 + 10
    last_trigger, last_events = batches_of(stand.broker)[-1]
    assert (last_trigger, len(last_events)) == (SIZE, 10)


def test_an_event_that_comes_during_the_cut_is_cut_at_once(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer finds the list not empty, and leaves no word."""
    to_enqueue = JobQueue.to_enqueue

    def record_meanwhile(self: JobQueue, *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        record(stand.broker, 2)
        return to_enqueue(self, *args, **options)

    record(stand.broker, 1)
    client_of(stand.broker).delete(stand.broker.keys.wake)
    monkeypatch.setattr(JobQueue, "to_enqueue", record_meanwhile)
    stand.step(Wake.IDLE)
    assert (words(stand.broker), stand.broker.events.waiting()) == ([], 1)
    stand.step()
    assert stand.listener.waits[-1] == 0
    assert batches_of(stand.broker)[-1] == (IDLE, [2])
    stand.step()
    assert stand.listener.waits[-1] > 0


def test_an_event_that_comes_during_the_cut_waits_for_room_if_there_is_none(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(stand.broker, 0)
    stand.step(Wake.IDLE)
    to_enqueue = JobQueue.to_enqueue

    def record_meanwhile(self: JobQueue, *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        record(stand.broker, 2)
        return to_enqueue(self, *args, **options)

    record(stand.broker, 1)
    monkeypatch.setattr(JobQueue, "to_enqueue", record_meanwhile)
    stand.step(Wake.IDLE)
    stand.step()
    stand.step()
    assert stand.listener.waits[-1] > 0  # it does not ask again and again
    assert client_of(stand.broker).exists(stand.broker.keys.held)
    client_of(stand.broker).delete(stand.broker.keys.wake)
    end_one(stand.broker)
    assert words(stand.broker) == [b"room"]
    stand.step(Wake.ROOM)
    assert batches_of(stand.broker)[-1] == (IDLE, [2])


def test_a_new_scheduler_looks_at_once(make_broker: MakeBroker, clock: ManualClock) -> None:
    """The one before may have ended after it read the word."""
    broker = make_broker(eager=True)
    record(broker, 1)
    client_of(broker).delete(broker.keys.wake)
    stand = Stand(broker, clock)
    assert stand.step() == 1
    assert stand.listener.waits == [0]


def test_a_scheduler_that_has_failed_looks_at_once(
    stand: Stand, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        monkeypatch.undo()
        raise Unavailable("gone")

    record(stand.broker, 1)
    client.delete(stand.broker.keys.wake)
    monkeypatch.setattr(JobQueue, "to_enqueue", fail)
    with pytest.raises(ServerError):
        stand.step(Wake.IDLE)
    stand.scheduler._stand_by()
    assert stand.step() == 1
    assert stand.listener.waits[-1] == 0


# the bound


@pytest.mark.parametrize(
    ("setting", "workers", "most"),
    [
        ("workers", 0, 1),
        ("workers", 1, 1),
        ("workers", 3, 3),
        ("2*workers", 0, 2),
        ("2*workers", 3, 6),
        (5, 3, 5),
    ],
)
def test_the_bound_follows_the_workers_and_is_published(
    make_broker: MakeBroker, clock: ManualClock, setting: int | str, workers: int, most: int
) -> None:
    broker = make_broker(max_size=1, eager=True, max_in_flight=setting)
    with_workers(broker, workers)
    stand = Stand(broker, clock)
    record(broker, *range(20))
    stand.step()
    assert len(broker.ledger.in_flight()) == most
    assert broker.published_config()["max_in_flight"] == most
    assert broker.published_config().get("max_in_flight_per_worker") == (
        None if isinstance(setting, int) else most // max(workers, 1)
    )


def test_workers_that_come_get_batches_at_once(stand: Stand) -> None:
    record(stand.broker, *range(100))
    stand.step(Wake.IDLE)
    assert len(stand.broker.ledger.in_flight()) == 2
    look_at_workers(stand, 4)
    stand.step()
    assert stand.listener.waits[-1] == 0
    assert len(stand.broker.ledger.in_flight()) == 8
    assert stand.broker.published_config()["max_in_flight"] == 8
    stand.step()
    assert stand.listener.waits[-1] > 0


def test_when_workers_have_gone_fewer_batches_get_a_job(stand: Stand) -> None:
    look_at_workers(stand, 3)
    record(stand.broker, *range(100))
    stand.step(Wake.IDLE)
    assert len(stand.broker.ledger.in_flight()) == 6
    look_at_workers(stand, 0)
    for left in (5, 4, 3, 2):
        end_one(stand.broker)
        stand.step(Wake.ROOM)
        assert len(stand.broker.ledger.in_flight()) == left
    end_one(stand.broker)
    stand.step(Wake.ROOM)
    assert len(stand.broker.ledger.in_flight()) == 2


def test_a_bound_that_could_not_be_published_is_published_later(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_most: int) -> None:
        monkeypatch.undo()
        raise Unavailable("gone")

    monkeypatch.setattr(stand.broker, "publish_in_flight", refuse)
    with pytest.raises(Unavailable):
        look_at_workers(stand, 3)
    stand.step()
    assert stand.broker.published_config()["max_in_flight"] == 6


def test_without_eager_the_bound_may_follow_the_workers_too(
    make_broker: MakeBroker, clock: ManualClock
) -> None:
    broker = make_broker(max_size=1, max_in_flight="3*workers")
    with_workers(broker, 1)
    record(broker, *range(20))
    stand = Stand(broker, clock)
    stand.step()
    assert len(broker.ledger.in_flight()) == 3
    look_at_workers(stand, 2)
    stand.step()
    assert len(broker.ledger.in_flight()) == 6


def test_a_count_that_was_seen_is_believed_only_when_the_cut_was_made(make_broker: MakeBroker) -> None:
    """The look behind a wake-up may be older than a cut. Then the lease has changed, and the cut fails."""
    room = Room(make_broker(max_in_flight=10))
    room.spend(8)
    assert (room.for_cuts(), room.for_cuts(seen=3), room.for_cuts()) == (2, 7, 2)
    assert room.for_cuts(seen=9) == 2  # a batch that was requeued is not this scheduler's
    room.spend(5, seen=3)
    assert room.for_cuts() == 2


# with the other reasons to hold back


def test_too_many_results_hold_back_an_eager_cut(make_broker: MakeBroker, clock: ManualClock) -> None:
    broker = make_broker(max_size=10, eager=True, results_max=1)
    stand = Stand(broker, clock)
    record(broker, 1)
    stand.step(Wake.IDLE)
    assert broker.ledger.commit(broker.ledger.in_flight()[0], Ending(("v", 1)))
    record(broker, 2)
    assert stand.step(Wake.IDLE) == 0
    stand.step()
    assert stand.listener.waits[-1] > 0
    client_of(broker).delete(broker.keys.results)
    assert stand.step() == 1


def test_an_outage_holds_back_eager_cuts_and_ends(make_broker: MakeBroker, clock: ManualClock) -> None:
    outage = [True]

    def process(batch: list[Any]) -> int:
        if outage[0]:
            raise TimeoutError
        return len(batch)

    flow = Flow(make_broker, clock, process, eager=True, max_size=2, max_in_flight="workers")
    with_workers(flow.broker, 2)
    flow.record(*range(40))
    flow.steps(30)
    assert flow.broker.held_back()
    assert flow.broker.events.waiting() >= 20
    outage[0] = False
    flow.finish()
    assert flow.done() == 40


def test_a_stop_is_reached_although_there_is_no_room(stand: Stand) -> None:
    record(stand.broker, *range(40))
    stand.step(Wake.IDLE)
    number = stand.broker.flushes.ask(Wake.FLUSH)
    stand.step(Wake.FLUSH)
    record(stand.broker, 99)
    for _ in range(3):  # the last for the event that came before there was room to look
        assert stand.broker.flushes.state().done < number
        end_one(stand.broker)
        stand.step(Wake.ROOM)
    assert stand.broker.flushes.state().done == number
