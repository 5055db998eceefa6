"""The drain: everything recorded before a stop has been dealt with, and nothing else is waited for."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.state.results import Results
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.request import Steps
from microbatch.broker.wire.ending import Ending
from microbatch.producer.drain import Drain
from tests.unit.steps import FakeClient, Leader, bury, claim, cut, record, record_and_cut, retry

ENTRY = ("v", 1, "result", "6")


@pytest.fixture
def results(broker: Broker) -> Results:
    results = broker.results()
    results.prepare()
    return results


def handle(results: Results) -> None:
    results.acknowledge([entry.id for entry in results.read(count=1)])


def finish_now(broker: Broker) -> Drain:
    drain = Drain(broker)
    drain.ask()
    return drain


def test_where_nothing_was_recorded_it_is_reached(broker: Broker, results: Results) -> None:
    assert finish_now(broker).reached()


def test_events_are_cut_and_committed_and_handled_before_it(broker: Broker, results: Results) -> None:
    record(broker, 1, 2, 3)
    finish = finish_now(broker)
    assert not finish.reached()
    first, second = cut(broker, 2, 1)
    assert not finish.reached()
    broker.ledger.commit(first.id, Ending(ENTRY))
    assert not finish.reached()
    broker.ledger.commit(second.id, Ending(ENTRY))
    assert not finish.reached()
    handle(results)
    assert not finish.reached()
    entry = results.read(count=1)
    assert not finish.reached()  # delivered, but not handled yet
    results.acknowledge([entry[0].id])
    assert finish.reached()
    assert finish.reached()


def test_what_was_in_flight_before_the_stop_is_waited_for(broker: Broker, results: Results) -> None:
    batch_id = record_and_cut(broker, 1)
    finish = finish_now(broker)
    assert not finish.reached()
    broker.ledger.commit(batch_id)
    assert finish.reached()


def test_a_dead_batch_is_dealt_with_when_its_failure_is_handled(broker: Broker, results: Results) -> None:
    claimed = claim(broker, record_and_cut(broker, 1))
    finish = finish_now(broker)
    bury(broker, claimed.id, claimed.run)
    assert not finish.reached()
    handle(results)
    assert finish.reached()


def test_events_recorded_later_are_not_waited_for(broker: Broker, results: Results) -> None:
    leader = Leader(broker)
    record(broker, 1, 2)
    finish = finish_now(broker)
    leader.look()
    record(broker, 3, 4)
    assert not finish.reached()
    (batch,) = leader.cut(2)
    assert not finish.reached()
    leader.cut(1)  # in flight for the rest of the test
    broker.ledger.commit(batch.id, Ending(ENTRY))
    late = record_and_cut(broker, 5)
    assert not finish.reached()
    handle(results)
    assert finish.reached()
    assert late in broker.ledger.in_flight()


def test_a_batch_that_holds_events_of_both_times_is_waited_for(broker: Broker, results: Results) -> None:
    leader = Leader(broker)
    record(broker, 1)
    finish = finish_now(broker)
    leader.look()
    record(broker, 2, 3)
    (batch,) = leader.cut(2)
    assert not finish.reached()
    broker.ledger.commit(batch.id)
    assert finish.reached()


def test_results_that_come_later_are_not_waited_for(broker: Broker, results: Results) -> None:
    early = record_and_cut(broker, 1)
    finish = finish_now(broker)
    broker.ledger.commit(early, Ending(ENTRY))
    assert not finish.reached()  # from now on, it waits for one entry
    broker.ledger.commit(record_and_cut(broker, 2), Ending(ENTRY))
    handle(results)
    assert finish.reached()


def test_a_retried_batch_is_still_waited_for(broker: Broker, results: Results) -> None:
    batch_id = record_and_cut(broker, 1)
    finish = finish_now(broker)
    assert not finish.reached()
    assert retry(broker, claim(broker, batch_id), due_ms=9_000_000)
    assert not finish.reached()


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("step", [1, 99, 150])
def test_of_many_batches_all_are_waited_for(
    broker: Broker, results: Results, backwards: bool, step: int
) -> None:
    record(broker, *range(250))
    ids = sorted((batch.id for batch in cut(broker, *[1] * 250)), reverse=backwards)
    finish = finish_now(broker)
    for done, batch_id in enumerate(ids):
        if done % step == 0:
            assert not finish.reached()
        broker.ledger.commit(batch_id)
    assert finish.reached()


def test_events_that_are_gone_are_not_waited_for(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    record(broker, 1, 2)
    finish = finish_now(broker)
    client.delete(broker.keys.events)
    assert finish.reached()


def test_a_flush_with_nothing_waiting_is_done_at_the_look(broker: Broker, results: Results) -> None:
    finish = finish_now(broker)
    Leader(broker).look()
    record(broker, 1)  # without an end, by another producer
    assert finish.reached()


def test_a_new_leader_finds_what_was_asked_for_before(broker: Broker, results: Results) -> None:
    record(broker, 1)
    finish = finish_now(broker)
    Leader(broker).look()  # and dies
    record(broker, 2)
    leader = Leader(broker)
    leader.look()
    (batch,) = leader.cut(1)
    broker.ledger.commit(batch.id)
    record(broker, 3)
    assert not finish.reached()  # the new one can't know that the first event was enough
    (batch,) = leader.cut(1)
    broker.ledger.commit(batch.id)
    assert finish.reached()


def test_events_that_jump_the_queue_do_not_end_it_early(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    """Counting how many events were ever cut, in place of a flush's number, would."""
    record(broker, 1, 2)
    finish = finish_now(broker)
    cut_before = broker.stats.counters().cut_events
    first, second = client.lrange(broker.keys.events, 0, -1)
    client.delete(broker.keys.events)
    record(broker, "urgent", "urgent")
    cut(broker, 2)
    client.rpush(broker.keys.events, first, second)
    assert broker.stats.counters().cut_events == cut_before + 2
    assert not finish.reached()


def test_if_the_server_has_lost_the_numbers_the_flush_is_asked_for_again(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    finish = [finish_now(broker) for _ in range(5)][-1]
    client.flushall()
    results.prepare()
    leader = Leader(broker)
    record(broker, 1)
    assert not finish.reached()
    assert client.lrange(broker.keys.wake, 0, -1) == [Wake.FLUSH.encode()]
    leader.look()
    (batch,) = leader.cut(1)
    record(broker, 2)
    broker.ledger.commit(batch.id)
    assert finish.reached()


@pytest.mark.parametrize("word", [Wake.FLUSH, Wake.MARK])
def test_the_scheduler_is_told_again_until_all_is_cut(broker: Broker, client: FakeClient, word: Wake) -> None:
    """One may have died with the word in hand."""
    record(broker, 1)
    finish = Drain(broker, word)
    finish.ask()
    assert client.lrange(broker.keys.wake, 0, -1) == [word.encode()]
    client.delete(broker.keys.wake)
    assert not finish.reached()
    finish.remind()
    assert client.lrange(broker.keys.wake, 0, -1) == [word.encode()]
    client.delete(broker.keys.wake)
    cut(broker, 1)
    assert not finish.reached()
    finish.remind()
    assert client.exists(broker.keys.wake) == 0


def test_what_one_thread_has_seen_another_need_not_ask_for(broker: Broker, results: Results) -> None:
    """Threads ask independently. What one of them finds true is true for all."""
    batch_id = record_and_cut(broker, 1)
    finish = finish_now(broker)
    all_cut, asked = finish._all_cut, list[bool]()

    def meanwhile() -> Steps[bool]:
        """Another thread asks at the same time."""
        found = yield from all_cut()
        if not asked:
            asked.append(found)
            broker.ledger.commit(batch_id, Ending(ENTRY))
            assert not finish.reached()  # now only the last entry is left
        return found

    finish._all_cut = meanwhile  # type: ignore[method-assign]
    assert not finish.reached()
    handle(results)
    assert finish.reached()
