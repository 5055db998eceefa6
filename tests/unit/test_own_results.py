"""One result per event: what each return value of a processor comes to, for each event and in the ledger."""

from __future__ import annotations

import array
import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from microbatch.broker.errors import EventExpired, EventFailed
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.wire.batch import BatchFailure, PartialFailure, Reject, RetryLater
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.fields import Tag
from microbatch.broker.wire.reply import Address
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualClock
from tests.unit.conftest import MakeRunner
from tests.unit.replies import EXPIRED_MS, Client
from tests.unit.steps import (
    CUT_AT_MS,
    FakeClient,
    account_of,
    check_account,
    claim,
    client_of,
    cut,
    due,
    outcomes,
    record,
    record_and_cut,
    values_of,
)


class Row(NamedTuple):
    name: str
    size: int


def handle(result: object) -> None: ...


def mourn(failure: BatchFailure) -> None: ...


def says(outcome: object) -> object:
    """A value as it is, and an error by its kind and text."""
    if isinstance(outcome, EventFailed):
        return f"failed: {outcome.error}"
    return type(outcome).__name__ if isinstance(outcome, BaseException) else outcome


def run_until_nothing_is_due(
    runner: BatchRunner, clock: ManualClock, *, others_succeed: bool = False
) -> None:
    """Run what is due until nothing is. With ``others_succeed``, another batch succeeds before each run."""
    broker = runner.broker
    for _ in range(100):
        clock.ms = max(clock.ms, broker.recovery.survey(0, retries=0, others=0).next_retry_ms or 0)
        if not (batches := due(broker, clock.ms)):
            return
        for batch in batches:
            if others_succeed:
                assert broker.ledger.commit(record_and_cut(broker, 99))
            runner.run(batch.id)
            check_account(broker)
    raise AssertionError("it never ends")


def outcome_of_three(
    make_runner: MakeRunner, clock: ManualClock, processor: Callable[[list[int]], object], **settings: object
) -> tuple[BatchRunner, list[object]]:
    """Submit 10, 20 and 30, run all that is due without retries, and return what each event's caller gets."""
    runner = make_runner(processor, **{"per_event": True, "max_retries": 0, **settings})
    client = Client(runner.broker)
    client.submit_and_cut(10, 20, 30)
    run_until_nothing_is_due(runner, clock)
    assert runner.broker.ledger.in_flight() == []
    return runner, [says(outcome) for _, outcome in sorted(client.replies().items())]


def returning(value: object) -> Callable[[list[int]], object]:
    return lambda _batch: value


def raising(error: BaseException) -> Callable[[list[int]], object]:
    def process(_batch: list[int]) -> object:
        raise error

    return process


async def doubled(batch: list[int]) -> list[int]:
    return [2 * event for event in batch]


NO_RESULT = "failed: NoResult: the processor returned no result for this event"
NO = "failed: ValueError: no"

SHAPES: dict[str, tuple[Callable[[list[int]], object], list[object]]] = {
    "a list": (returning([1, "b", {"c": [None]}]), [1, "b", {"c": [None]}]),
    "a tuple": (returning((1, 2, 3)), [1, 2, 3]),
    "a named tuple for each": (returning([Row("a", 1)] * 3), [["a", 1]] * 3),
    "the batch itself": (lambda batch: batch, [10, 20, 30]),
    "None for each": (returning([None] * 3), [None, None, None]),
    "falsy values": (returning([0, "", False]), [0, "", False]),
    "equal values": (returning([True, True, True]), [True, True, True]),
    "a dict": (returning({2: "c", 0: "a", 1: "b"}), ["a", "b", "c"]),
    "an ordered dict": (returning(OrderedDict({2: "c", 0: "a", 1: "b"})), ["a", "b", "c"]),
    "a dict without an event": (returning({0: "a", 2: "c"}), ["a", NO_RESULT, "c"]),
    "a dict with a default": (returning(defaultdict(str, {0: "a"})), ["a", NO_RESULT, NO_RESULT]),
    "an empty dict": (returning({}), [NO_RESULT] * 3),
    "a coroutine": (doubled, [20, 40, 60]),
    "an exception in the list": (returning([1, ValueError("no"), 3]), [1, NO, 3]),
    "an exception in the dict": (returning({0: ValueError("no"), 1: 2, 2: 3}), [NO, 2, 3]),
    "only exceptions": (returning([ValueError("no")] * 3), [NO] * 3),
    "an exit in the list": (returning([1, SystemExit("bye"), 3]), [1, "failed: SystemExit: bye", 3]),
    "a Reject in the list": (returning([1, Reject("never"), 3]), [1, "failed: never", 3]),
    "a Reject of an error": (returning([1, Reject(ValueError("no")), 3]), [1, NO, 3]),
    "a partial failure": (
        raising(PartialFailure({1: "no"})),
        [NO_RESULT, "failed: RuntimeError: no", NO_RESULT],
    ),
    "one with results": (raising(PartialFailure({1: ValueError("no")}, {0: 1, 2: 3})), [1, NO, 3]),
    "one with a list": (raising(PartialFailure({1: ValueError("no")}, [1, "ignored", 3])), [1, NO, 3]),
    "one that names nothing": (raising(PartialFailure({}, [1, 2, 3])), [1, 2, 3]),
    "a class of exceptions": (
        returning([1, ValueError, 3]),
        [1, "failed: EncodeError: the result cannot be encoded as JSON: type", 3],
    ),
}


@pytest.mark.parametrize(("processor", "wanted"), SHAPES.values(), ids=SHAPES)
def test_each_event_gets_what_is_in_its_place(
    make_runner: MakeRunner,
    clock: ManualClock,
    processor: Callable[[list[int]], object],
    wanted: list[object],
) -> None:
    runner, got = outcome_of_three(make_runner, clock, processor)
    assert [_short(each) for each in got] == [_short(each) for each in wanted]
    dead = sum(str(each).startswith("failed") for each in wanted)
    account = account_of(runner.broker)
    assert (account.done, account.dead, account.expired) == (3 - dead, dead, 0)
    assert outcomes(runner.broker) == []
    check_account(runner.broker)


def _short(outcome: object) -> object:
    return outcome[:40] if isinstance(outcome, str) else outcome


def generator(batch: list[int]) -> Iterator[int]:
    yield from batch


async def agenerator(batch: list[int]) -> Any:
    for event in batch:
        yield event


class NdArray:
    """As NumPy's: it has a length and items, and its comparisons have no truth."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        return index

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


WRONG = "with per_event, the processor returns one result per event"
REFUSED: dict[str, tuple[Callable[[list[int]], object], str]] = {
    "None": (returning(None), f"TypeError: {WRONG}"),
    "a text of that length": (returning("abc"), f"TypeError: {WRONG}"),
    "bytes of that length": (returning(b"abc"), f"TypeError: {WRONG}"),
    "a set": (returning({1, 2, 3}), f"TypeError: {WRONG}"),
    "a number": (returning(3), f"TypeError: {WRONG}"),
    "a generator": (generator, f"TypeError: {WRONG}"),
    "an async generator": (agenerator, ""),
    "an array": (returning(array.array("i", [1, 2, 3])), f"TypeError: {WRONG}"),
    "an array of NumPy": (returning(NdArray()), f"TypeError: {WRONG}"),
    "too few": (returning([1, 2]), f"ValueError: {WRONG}"),
    "too many": (returning([1, 2, 3, 4]), f"ValueError: {WRONG}"),
    "an empty list": (returning([]), f"ValueError: {WRONG}"),
    "True as a key": (returning({True: 1, 0: 1, 2: 1}), f"TypeError: {WRONG}"),
    "names as keys": (returning({"0": 1}), f"TypeError: {WRONG}"),
    "a position behind the end": (returning({3: 1}), "ValueError: the processor names positions [3]"),
    "a position before the first": (returning({-1: 1}), "ValueError: the processor names positions [-1]"),
    "a failure behind the end": (raising(PartialFailure({9: "no"})), "ValueError: the processor names pos"),
    "a failure with a wrong list": (raising(PartialFailure({0: "no"}, [1])), f"ValueError: {WRONG}"),
    "an exception": (raising(ValueError("no")), "ValueError: no"),
    "an exit": (raising(SystemExit(1)), "SystemExit: 1"),
    "a Reject": (raising(Reject("never")), "never"),
}


@pytest.mark.parametrize(("processor", "error"), REFUSED.values(), ids=REFUSED)
def test_anything_else_fails_the_batch_and_everyone_knows_why(
    make_runner: MakeRunner, clock: ManualClock, processor: Callable[[list[int]], object], error: str
) -> None:
    runner, got = outcome_of_three(make_runner, clock, processor)
    assert len(got) == 3
    assert all(str(each).startswith(f"failed: {error}") for each in got), got
    assert account_of(runner.broker).dead == 3


@pytest.mark.parametrize(
    "bad",
    [object(), "x" * 101, 10**20_000, "\ud800"],
    ids=["no JSON", "too large", "a number too long to read", "no UTF-8"],
)
def test_a_result_that_has_no_json_fails_alone(
    make_runner: MakeRunner, clock: ManualClock, bad: object
) -> None:
    _, got = outcome_of_three(make_runner, clock, returning([1, bad, 3]), max_result_bytes=100)
    assert (got[0], got[2]) == (1, 3)
    assert str(got[1]).startswith("failed: EncodeError: ")


def test_values_that_json_has_not_are_as_those_of_events(make_runner: MakeRunner, clock: ManualClock) -> None:
    _, got = outcome_of_three(make_runner, clock, returning([float("nan"), b"\xff", {(1, 2): float("inf")}]))
    assert got[1:] == ["_w==", {"1,2": float("inf")}]
    assert got[0] != got[0]


def test_all_results_together_are_bounded(
    make_runner: MakeRunner, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes the connection of a client that sends more."""
    monkeypatch.setattr("microbatch.worker.own_results.MOST_RESULT_BYTES", 25)
    settings = {"isolate_failures": True}
    _, got = outcome_of_three(make_runner, clock, lambda batch: ["x" * 8] * len(batch), **settings)
    assert got == ["x" * 8] * 3  # the batch was divided


def test_a_failed_event_is_tried_again_and_the_others_are_done(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    runs: list[list[int]] = []

    def process(batch: list[int]) -> list[object]:
        runs.append(batch)
        return [ValueError("not yet") if event == 20 and len(runs) == 1 else -event for event in batch]

    runner, got = outcome_of_three(make_runner, clock, process, max_retries=1)
    assert runs == [[10, 20, 30], [20]]
    assert got == [-10, -20, -30]
    assert account_of(runner.broker).done == 3


def test_an_event_may_ask_for_a_later_run(make_runner: MakeRunner, clock: ManualClock) -> None:
    runs: list[list[int]] = []

    def process(batch: list[int]) -> list[object]:
        runs.append(batch)
        return [RetryLater(7) if len(runs) == 1 and event != 20 else event for event in batch]

    start_ms = clock.ms
    _, got = outcome_of_three(make_runner, clock, process)
    assert (runs, got) == ([[10, 20, 30], [10, 30]], [10, 20, 30])
    assert clock.ms >= start_ms + 7_000


def test_nothing_goes_to_the_results_without_a_handler(make_runner: MakeRunner, clock: ManualClock) -> None:
    """Nobody would read it: the stream would grow until `results_max` stops the batcher."""
    runner = make_runner(lambda batch: batch, per_event=True)
    runner.run(record_and_cut(runner.broker, 1, 2))
    dying = make_runner(raising(Reject("no")), per_event=True)
    dying.run(record_and_cut(runner.broker, 3))
    assert not client_of(runner.broker).exists(runner.broker.keys.results)


def test_a_failure_handler_alone_gets_no_results(make_runner: MakeRunner) -> None:
    runner = make_runner(lambda batch: batch, per_event=True, failure_handler=mourn)
    runner.run(record_and_cut(runner.broker, 1, 2))
    assert outcomes(runner.broker) == []


def test_the_handler_gets_the_results_of_recorded_events_as_one_list(make_runner: MakeRunner) -> None:
    runner = make_runner(lambda batch: [-event for event in batch], per_event=True, result_handler=handle)
    broker, client = runner.broker, Client(runner.broker)
    record(broker, 1)
    client.submit(2)
    record(broker, 3)
    runner.run(cut(broker, 3)[0].id)
    (outcome,) = outcomes(broker)
    assert json.loads(outcome.result or b"") == [-1, -3]
    assert client.replies() == {1: -2}


def test_the_handler_gets_nothing_for_a_batch_of_submitted_events(make_runner: MakeRunner) -> None:
    runner = make_runner(lambda batch: batch, per_event=True, result_handler=handle)
    client = Client(runner.broker)
    runner.run(client.submit_and_cut(1, 2))
    assert outcomes(runner.broker) == []
    assert client.replies() == {1: 1, 2: 2}


def test_discarded_results_are_replied(make_runner: MakeRunner) -> None:
    runner = make_runner(lambda batch: batch, per_event=True, results="discard")
    client = Client(runner.broker)
    client.submit(1)
    record(runner.broker, 2)
    runner.run(cut(runner.broker, 2)[0].id)
    assert (client.replies(), outcomes(runner.broker)) == ({1: 1}, [])


def test_the_failure_handler_is_told_of_dead_events_that_were_submitted(make_runner: MakeRunner) -> None:
    runner = make_runner(raising(Reject("no")), per_event=True, failure_handler=mourn)
    client = Client(runner.broker)
    runner.run(client.submit_and_cut(1))
    assert [outcome.failure.error for outcome in outcomes(runner.broker) if outcome.failure] == ["no"]
    assert isinstance(client.replies()[1], EventFailed)


def test_a_batch_is_replied_once_however_often_it_is_run(make_runner: MakeRunner, clock: ManualClock) -> None:
    runner = make_runner(lambda batch: batch, per_event=True)
    client = Client(runner.broker)
    batch_id = client.submit_and_cut(1, 2)
    silent = runner.claim(batch_id)
    assert silent is not None
    clock.advance(60_000)
    run = runner.process(silent)
    assert runner.run(batch_id).text == "done"
    assert runner.record_outcome(run).text == "nothing changed: another worker was first"
    assert client.replies() == {1: 1, 2: 2}  # which asserts that none came twice


# Expiry.


def test_an_expired_event_is_left_out_and_told(make_runner: MakeRunner, clock: ManualClock) -> None:
    seen: list[list[int]] = []

    def process(batch: list[int]) -> list[int]:
        seen.append(batch)
        return batch

    runner = make_runner(process, per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    client.submit(1, expires_at_ms=EXPIRED_MS)
    client.submit(2, expires_at_ms=CUT_AT_MS + 1)
    client.submit(3, expires_at_ms=CUT_AT_MS)
    client.submit(4)
    clock.advance(10_000_000)  # only the time of the cut counts
    batch_id = cut(broker, 4)[0].id
    assert runner.run(batch_id).text == "done"
    assert seen == [[2, 4]]
    outcomes_by_number = {number: says(outcome) for number, outcome in client.replies().items()}
    assert outcomes_by_number == {1: "EventExpired", 2: 2, 3: "EventExpired", 4: 4}
    account = account_of(broker)
    assert (account.done, account.expired, account.recorded) == (2, 2, 4)
    check_account(broker)
    assert list(Audit(broker).findings()) == []


def test_if_all_have_expired_the_processor_is_not_called(make_runner: MakeRunner) -> None:
    runner = make_runner(raising(AssertionError("it ran")), per_event=True, result_handler=handle)
    client = Client(runner.broker)
    client.submit(1, 2, expires_at_ms=EXPIRED_MS)
    assert runner.run(cut(runner.broker, 2)[0].id).text == "done"
    assert [type(outcome) for outcome in client.replies().values()] == [EventExpired] * 2
    assert outcomes(runner.broker) == []
    assert account_of(runner.broker).expired == 2


def test_the_same_events_are_processed_at_each_attempt(make_runner: MakeRunner, clock: ManualClock) -> None:
    """A naive worker would compare with its own clock, and leave out more events at each attempt."""
    seen: list[list[int]] = []

    def process(batch: list[int]) -> list[int]:
        seen.append(list(batch))
        clock.advance(1_000_000)
        if len(seen) < 3:
            raise ValueError("not yet")
        return batch

    runner = make_runner(process, per_event=True, max_retries=5)
    client = Client(runner.broker)
    client.submit(1, expires_at_ms=EXPIRED_MS)
    client.submit(2, expires_at_ms=CUT_AT_MS + 1_000)
    client.submit(3, expires_at_ms=CUT_AT_MS + 2_000)
    cut(runner.broker, 3)
    run_until_nothing_is_due(runner, clock)
    assert seen == [[2, 3]] * 3
    assert {n: says(outcome) for n, outcome in client.replies().items()} == {1: "EventExpired", 2: 2, 3: 3}


def test_a_divided_batch_leaves_out_the_same_events(make_runner: MakeRunner, clock: ManualClock) -> None:
    def process(batch: list[int]) -> list[int]:
        assert 1 not in batch
        assert 4 not in batch
        if 3 in batch:
            raise ValueError("no")
        return batch

    runner = make_runner(process, per_event=True, max_retries=1, isolate_failures=True)
    broker, client = runner.broker, Client(runner.broker)
    for value in (1, 2, 3, 4, 5):
        client.submit(value, expires_at_ms=EXPIRED_MS if value in (1, 4) else None)
    cut(broker, 5)
    run_until_nothing_is_due(runner, clock, others_succeed=True)
    replies = {number: says(outcome) for number, outcome in client.replies().items()}
    assert replies == {1: "EventExpired", 2: 2, 3: "failed: ValueError: no", 4: "EventExpired", 5: 5}
    account = account_of(broker)
    assert (account.expired, account.dead, account.in_flight) == (2, 1, 0)


@pytest.mark.parametrize("error", [Reject("no"), ValueError("no")])
def test_expired_events_do_not_die_with_their_batch(
    make_runner: MakeRunner, clock: ManualClock, error: Exception
) -> None:
    """The processor never saw them, and a replay of the dead batch would process them."""
    runner = make_runner(raising(error), per_event=True, max_retries=0)
    broker, client = runner.broker, Client(runner.broker)
    client.submit(1, expires_at_ms=EXPIRED_MS)
    client.submit(2)
    cut(broker, 2)
    run_until_nothing_is_due(runner, clock)
    replies = client.replies()
    assert isinstance(replies[1], EventExpired)
    assert isinstance(replies[2], EventFailed)
    assert replies[2].attempts == 1
    assert [values_of(broker.dead.events(batch.id)) for batch in broker.dead] == [[2]]
    assert (account_of(broker).expired, account_of(broker).dead) == (1, 1)
    check_account(broker)


@pytest.mark.parametrize("raw", [b"soon", b"-5", b"1" * 16])
def test_an_event_with_a_malformed_time_of_expiry_dies_alone(
    make_runner: MakeRunner, clock: ManualClock, raw: bytes
) -> None:
    runner = make_runner(lambda batch: batch, per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    fields = ((Tag.REPLY_TO, Address(client.stream.client, 7).encode()), (Tag.EXPIRES, raw))
    client.submit(1)
    broker.events.record([Event(b"2", CUT_AT_MS, fields).encode()])
    report = runner.run(cut(broker, 2)[0].id)
    assert report.is_dead
    replies = {number: says(outcome) for number, outcome in client.replies().items()}
    assert replies == {1: 1, 7: "failed: DecodeError: an event has a malformed time of expiry"}


def test_unreadable_events_die_and_expired_ones_are_told(make_runner: MakeRunner, clock: ManualClock) -> None:
    runner = make_runner(lambda batch: batch, per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    client.submit(1, expires_at_ms=EXPIRED_MS)
    broker.events.record(
        [Event(b"{no JSON", 5, ((Tag.REPLY_TO, Address(client.stream.client, 7).encode()),)).encode()]
    )
    client.submit(3)
    cut(broker, 3)
    run_until_nothing_is_due(runner, clock)
    replies = {number: says(outcome) for number, outcome in client.replies().items()}
    assert replies.keys() == {1, 2, 7}
    assert (replies[1], replies[2]) == ("EventExpired", 3)
    assert str(replies[7]).startswith("failed: DecodeError: the event is not JSON")


# Death and replay.


def test_a_replayed_event_wants_no_reply_and_does_not_expire(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    runner = make_runner(raising(Reject("no")), per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    client.submit(5, expires_at_ms=CUT_AT_MS + 1)
    batch_id = cut(broker, 1)[0].id
    runner.run(batch_id)
    assert isinstance(client.replies()[1], EventFailed)
    assert broker.dead.replay(batch_id) == (1, 1)
    clock.advance(10_000_000)
    seen: list[list[int]] = []

    def process(batch: list[int]) -> list[int]:
        seen.append(batch)
        return batch

    again = make_runner(process, per_event=True)
    again.run(cut(broker, 1)[0].id)
    assert seen == [[5]]
    assert client.replies() == {}


def test_a_dead_batch_that_is_run_again_sends_replies_that_its_client_ignores(
    make_runner: MakeRunner,
) -> None:
    dying = make_runner(raising(Reject("no")), per_event=True)
    broker, client = dying.broker, Client(dying.broker)
    batch_id = client.submit_and_cut(1)
    dying.run(batch_id)
    assert isinstance(client.replies()[1], EventFailed)
    now_ms = broker.clock.now_ms()
    assert broker.dead.requeue(batch_id, due_ms=now_ms, died_before_ms=now_ms + 1)
    make_runner(lambda batch: batch, per_event=True).run(batch_id)
    assert client.replies() == {1: 1}  # the future of number 1 was settled long ago
    check_account(broker)


# Clients that are gone, and keys that are not theirs.


def test_the_stream_of_a_client_that_is_gone_is_not_made_again(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    """Otherwise each client that ever ended with events in flight would leave a key for ever."""
    for processor in (lambda batch: batch, raising(Reject("no")), returning({0: 1, 1: Reject("no")})):
        runner = make_runner(processor, per_event=True)
        gone, client = Client(runner.broker), Client(runner.broker)
        gone.submit(1)
        client.submit(2)
        client_of(runner.broker).delete(gone.key)
        runner.run(cut(runner.broker, 2)[0].id)
        run_until_nothing_is_due(runner, clock)
        assert not client_of(runner.broker).exists(gone.key)
        assert len(client.replies()) == 1


@pytest.mark.parametrize("kind", ["string", "list", "hash", "a stream at its last id"])
@pytest.mark.parametrize("processor", [lambda batch: batch, raising(Reject("no"))])
def test_a_key_that_is_no_stream_holds_nothing_up(
    make_runner: MakeRunner, clock: ManualClock, processor: object, kind: str
) -> None:
    runner = make_runner(processor, per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    wrong = Client(broker)
    wrong.submit(1)
    client.submit(2)
    server: FakeClient = client_of(broker)
    server.delete(wrong.key)
    {
        "string": lambda: server.set(wrong.key, 1),
        "list": lambda: server.rpush(wrong.key, 1),
        "hash": lambda: server.hset(wrong.key, "a", 1),
        "a stream at its last id": lambda: server.xadd(
            wrong.key, {"a": 1}, id="18446744073709551615-18446744073709551615"
        ),
    }[kind]()
    runner.run(cut(broker, 2)[0].id)
    run_until_nothing_is_due(runner, clock)
    assert broker.ledger.in_flight() == []
    assert len(client.replies()) == 1
    check_account(broker)


def test_a_batch_whose_worker_dies_with_a_client_that_replies_to_no_event(make_runner: MakeRunner) -> None:
    """Foreign fields in the stream are not replies."""
    runner = make_runner(lambda batch: batch, per_event=True)
    client = Client(runner.broker)
    server = client_of(runner.broker)
    server.xadd(client.key, {"open": 1, "g": "=1", "-1": "=1", "": "=1"})
    runner.run(client.submit_and_cut(1))
    assert client.replies() == {1: 1}


def test_a_worker_without_per_event_tells_of_the_dead(make_runner: MakeRunner) -> None:
    runner = make_runner(raising(Reject("no")))
    client = Client(runner.broker)
    runner.run(client.submit_and_cut(1))
    assert isinstance(client.replies()[1], EventFailed)


def test_replies_of_many_events_come_in_one_commit(make_runner: MakeRunner) -> None:
    """More than fit into one entry of a stream, for one client and for another."""
    runner = make_runner(lambda batch: [-event for event in batch], per_event=True)
    broker, one, other = runner.broker, Client(runner.broker), Client(runner.broker)
    broker.events.record([(one if n % 8 else other).encoded(n) for n in range(10_000)])
    assert runner.run(cut(broker, 10_000)[0].id).text == "done"
    assert sorted(one.replies().values()) == sorted(-n for n in range(10_000) if n % 8)
    assert sorted(other.replies().values()) == sorted(-n for n in range(10_000) if not n % 8)


def test_the_burial_of_a_part_that_another_worker_took_is_not_replied(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    runner = make_runner(returning([Reject("no"), 2]), per_event=True)
    broker, client = runner.broker, Client(runner.broker)
    batch = runner.claim(client.submit_and_cut(1, 2))
    assert batch is not None
    run = runner.process(batch)
    clock.advance(60_000)
    claim(broker, batch.id, owner="another")
    runner.record_outcome(run)
    assert client.replies() == {}
    check_account(broker)
