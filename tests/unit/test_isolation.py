"""Partial failures: the events that fail are found, and no other events die."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.wire.batch import BatchInfo, PartialFailure
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import DueBatch, Part, halves_of, part_of
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import Mode, RunRecord
from tests.doubles import ManualClock
from tests.unit.conftest import MakeRunner
from tests.unit.steps import (
    check_account,
    claim,
    client_of,
    due,
    failed,
    record_and_cut,
    snapshot,
    values_of,
)


def results(broker: Broker) -> list[bytes | None]:
    entries = client_of(broker).xrange(broker.keys.results)
    return [Outcome.decode(fields).result for _, fields in entries if b"result" in fields]


def dead_events(broker: Broker) -> list[tuple[str, list[object]]]:
    return sorted((batch.failure.error, values_of(broker.dead.events(batch.id))) for batch in broker.dead)


def run_all(
    make_runner: MakeRunner,
    clock: ManualClock,
    processor: object,
    events: range,
    *,
    others_succeed: bool = False,
    **settings: object,
) -> Broker:
    """Record the events as one batch, and run what is due until nothing is in flight.

    With ``others_succeed``, a batch with another event succeeds between the runs.
    """
    runner = make_runner(processor, **{"isolate_failures": True, "max_retries": 1, **settings})
    broker = runner.broker
    record_and_cut(broker, *events)
    for _ in range(1_000):
        clock.ms = max(clock.ms, broker.recovery.survey(0, retries=0, others=0).next_retry_ms or 0)
        batches = due(broker, clock.ms)
        if not batches:
            return broker
        for batch in batches:
            if others_succeed:
                assert broker.ledger.commit(record_and_cut(broker, "good"))
            runner.run(batch.id)
            check_account(broker)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("others_succeed", [True, False])
def test_one_poison_event_among_a_thousand_dies_alone(
    make_runner: MakeRunner, clock: ManualClock, others_succeed: bool
) -> None:
    """If nothing else runs, one of its other events is run alone, and shows that this is not an outage."""
    runs: list[int] = []

    def processor(batch: list[int], info: BatchInfo) -> int:
        runs.append(len(batch))
        if 500 in batch:
            raise ValueError("poison")
        return sum(batch)

    broker = run_all(make_runner, clock, processor, range(1_000), others_succeed=others_succeed)
    assert dead_events(broker) == [("ValueError: poison", [500])]
    assert sum(int(result or 0) for result in results(broker)) == sum(range(1_000)) - 500
    probe = [] if others_succeed else [1, 999]
    assert runs[: 2 + len(probe)] == [1_000, 1_000, *probe]
    # If nothing else runs, the event is tried for another 15 s, in case this is an outage.
    assert len(runs) <= 2 + len(probe) + 2 * math.ceil(math.log2(1_000)) + (1 if others_succeed else 5)
    assert broker.stats.counters().dead_events_now == 1


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_where_all_events_of_a_batch_fail_each_division_costs_two_runs(
    make_runner: MakeRunner, clock: ManualClock, size: int
) -> None:
    runs: list[int] = []

    def processor(batch: list[int]) -> None:
        runs.append(len(batch))
        raise ValueError("poison")

    broker = run_all(make_runner, clock, processor, range(size), others_succeed=True, max_retries=2)
    # Each event runs once more, to see it fail on its own while others succeed.
    assert len(runs) == (1 + 2) + (2 * size - 2) + (size if size > 1 else 0)
    assert runs.count(size) == 3 or size == 1
    assert dead_events(broker) == [("ValueError: poison", [event]) for event in range(size)]


def test_every_attempt_has_the_same_id_and_the_same_events_in_order(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    seen: list[tuple[str, list[int]]] = []

    def processor(batch: list[int], info: BatchInfo) -> None:
        seen.append((info.id, batch))
        raise ValueError("no")

    run_all(make_runner, clock, processor, range(9, 0, -1), max_retries=3, isolate_failures=False)
    assert seen == [(seen[0][0], list(range(9, 0, -1)))] * 4


def test_without_isolation_a_batch_dies_whole(make_runner: MakeRunner, clock: ManualClock) -> None:
    def processor(batch: list[int]) -> None:
        raise ValueError("poison")

    broker = run_all(make_runner, clock, processor, range(4), isolate_failures=False)
    assert dead_events(broker) == [("ValueError: poison", [0, 1, 2, 3])]


def test_a_part_tells_its_whole_and_keeps_its_attempts(make_runner: MakeRunner, broker: Broker) -> None:
    batch_id = record_and_cut(broker, 1, 2, 3)
    claimed = claim(broker, batch_id, owner="first")
    then = failed(broker, claimed.run)
    parts = halves_of(claimed, then, due_ms=5)
    assert broker.ledger.divide(batch_id, claimed.run, parts)
    first, second = due(broker, 5)
    assert isinstance(first, DueBatch)
    assert {first.header.parent, second.header.parent} == {batch_id}
    assert sorted((first.header.size, second.header.size)) == [1, 2]
    assert first.run == second.run == replace(then, mode=Mode.ISOLATING)
    assert not broker.ledger.divide(batch_id, claimed.run, parts)
    check_account(broker)


@pytest.mark.parametrize(
    ("positions", "runs"),
    [
        (range(5), [(0, 4)]),
        (range(2, 5), [(2, 4)]),
        (range(0, 6, 2), [(0, 0), (2, 2), (4, 4)]),
        ([3], [(3, 3)]),
        ([0, 1, 2, 5, 7, 8], [(0, 2), (5, 5), (7, 8)]),
    ],
)
def test_a_part_names_its_events_by_runs_of_neighbours(
    positions: Sequence[int], runs: list[tuple[int, int]]
) -> None:
    header = Header(Trigger.SIZE, len(positions), 1)
    assert Part("id", header, RunRecord(), 0, positions).runs() == runs


@pytest.mark.parametrize("seed", range(5))
def test_each_part_gets_its_own_events_in_order(broker: Broker, seed: int) -> None:
    dice = Random(seed)
    count = 1_300  # more than one push takes
    claimed = claim(broker, record_and_cut(broker, *range(count)))
    where = [dice.choice("aabbb-") for _ in range(count)]
    wanted = {name: [i for i in range(count) if where[i] == name] for name in "ab"}
    parts = {name: part_of(claimed, positions, claimed.run, due_ms=0) for name, positions in wanted.items()}
    assert broker.ledger.divide(
        claimed.id, claimed.run, list(parts.values()), Ending(("v", 1, "result", "1"))
    )
    for name, part in parts.items():
        header, _, *events = client_of(broker).lrange(broker.keys.batch(part.id), 0, -1)
        assert values_of(events) == wanted[name]
        assert Header.decode(header).size == len(events)
    assert broker.stats.counters().done_events == where.count("-")
    check_account(broker)


@pytest.mark.parametrize("positions", [range(3, 5), [-1], [4]])
def test_a_part_of_events_that_are_not_there_is_refused(broker: Broker, positions: Sequence[int]) -> None:
    claimed = claim(broker, record_and_cut(broker, 1, 2, 3, 4))
    before = snapshot(client_of(broker))
    with pytest.raises(Refused, match="BADPOSITION"):
        broker.ledger.divide(claimed.id, claimed.run, [part_of(claimed, positions, claimed.run, due_ms=0)])
    assert snapshot(client_of(broker)) == before


def test_named_events_alone_are_tried_again(make_runner: MakeRunner, clock: ManualClock) -> None:
    seen: list[tuple[int, list[int]]] = []

    def processor(batch: list[int], info: BatchInfo) -> int:
        seen.append((info.attempt, batch))
        if info.attempt == 1:
            raise PartialFailure(
                {1: ValueError("later"), 3: "later"}, result=sum(batch) - batch[1] - batch[3]
            )
        return sum(batch)

    broker = run_all(make_runner, clock, processor, range(10, 15))
    assert seen == [(1, [10, 11, 12, 13, 14]), (2, [11, 13])]
    assert results(broker) == [b"36", b"24"]
    assert dead_events(broker) == []
    assert broker.stats.counters().done_events == 5


def test_the_only_event_of_a_batch_fails_with_its_own_error(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    seen: list[str] = []

    def processor(batch: list[int], info: BatchInfo) -> None:
        seen.append(info.id)
        raise PartialFailure({0: ValueError("odd")}, result="nothing was done")

    broker = run_all(make_runner, clock, processor, range(1))
    assert dead_events(broker) == [("ValueError: odd", [0])]
    assert results(broker) == []
    assert len(seen) == 2
    assert len(set(seen)) == 1  # the batch was not divided


@pytest.mark.parametrize("named", [True, False])
def test_an_isolated_event_has_its_time_whether_it_is_named_or_not(
    named: bool, make_runner: MakeRunner, clock: ManualClock
) -> None:
    """The event runs again a second later. An outage would show in that time."""
    alone_at: list[int] = []

    def processor(batch: list[int]) -> None:
        if batch == [3]:
            alone_at.append(clock.ms)
            raise PartialFailure({0: "no"}) if named else ValueError
        if 3 in batch:
            raise ValueError

    broker = run_all(make_runner, clock, processor, range(4))
    assert [events for _, events in dead_events(broker)] == [[3]]
    assert alone_at[1] - alone_at[0] == 1_000


def test_what_fails_for_good_is_buried_by_its_error(make_runner: MakeRunner, clock: ManualClock) -> None:
    def processor(batch: list[int]) -> None:
        errors = {
            i: ValueError("odd") if event % 2 else KeyError("even")
            for i, event in enumerate(batch)
            if event < 4
        }
        raise PartialFailure(errors)

    broker = run_all(make_runner, clock, processor, range(6))
    assert dead_events(broker) == [("KeyError: 'even'", [0, 2]), ("ValueError: odd", [1, 3])]
    assert broker.stats.counters().done_events == 2


def test_a_partial_failure_that_names_nothing_is_a_success(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    def processor(batch: list[int]) -> None:
        raise PartialFailure({}, result="all well")

    assert results(run_all(make_runner, clock, processor, range(3))) == [b'"all well"']


@pytest.mark.parametrize("position", [-1, 2])
def test_a_position_that_is_not_in_the_batch_fails_it(
    position: int, make_runner: MakeRunner, clock: ManualClock
) -> None:
    def processor(batch: list[int]) -> None:
        raise PartialFailure({position: "?"})

    broker = run_all(make_runner, clock, processor, range(2), isolate_failures=False)
    assert dead_events(broker) == [
        (f"ValueError: PartialFailure names positions [{position}] of 2 events", [0, 1])
    ]
