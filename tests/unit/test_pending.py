"""The futures of submitted events, until their outcome is known."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbatch.broker.errors import Closed, DecodeError, EncodeError, EventExpired, EventFailed, ReplyLost
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.reply import EXPIRED, Address, Reply, addresses_of, expires_at_ms
from microbatch.producer.pending import Pending, outcome_of, settle
from microbatch.producer.submission import Submission, check_seconds, next_write

CLIENT = "c" * 16


def test_a_future_is_settled_once() -> None:
    pending, future = Pending(), Future[Any]()
    number = pending.add(future)
    assert len(pending) == 1
    assert pending.settle(number, 1)
    assert not pending.settle(number, 2)
    assert future.result(0) == 1
    assert len(pending) == 0


def test_a_child_that_is_forked_while_a_future_is_settled_finds_it_pending() -> None:
    """Otherwise the child has a future that nothing settles: the thread that would is its parent's."""

    class Forking(Future[Any]):
        def set_result(self, result: Any) -> None:
            found.append(pending.futures())
            super().set_result(result)

    pending, future = Pending(), Forking()
    found: list[list[Any]] = []
    pending.settle_by([(pending.add(future), b"=1")])
    assert found == [[future]]
    assert pending.futures() == []


def test_the_next_deadline_is_that_of_a_pending_future() -> None:
    pending = Pending()
    assert pending.next_deadline == inf
    numbers = [pending.add(Future(), deadline) for deadline in (30, 10, inf, 20)]
    assert pending.next_deadline == 10
    pending.forget(numbers[1])
    assert pending.next_deadline == 20


def test_late_futures_are_given_up_and_the_others_stay() -> None:
    pending = Pending()
    late, later, never = Future[Any](), Future[Any](), Future[Any]()
    for future, deadline in ((later, 21.0), (late, 20.0), (never, inf)):
        pending.add(future, deadline)
    assert pending.give_up_late(20.0)
    assert not pending.give_up_late(20.0)
    assert isinstance(late.exception(0), TimeoutError)
    assert set(pending.futures()) == {later, never}


def test_deadlines_of_settled_futures_do_not_pile_up() -> None:
    """With a timeout of an hour and a reply in a millisecond, they would be all deadlines of an hour."""
    pending = Pending()
    for _ in range(20_000):
        pending.forget(pending.add(Future(), 1e9))
    assert len(pending._deadlines) < 2_000
    pending.add(Future(), 5)
    assert pending.next_deadline == 5


def test_a_signal_handler_may_cancel_a_future_while_another_is_added() -> None:
    """It runs in the middle of whatever its thread does, even while that holds the lock."""
    pending = Pending()
    number = pending.add(Future())
    with pending._lock:
        pending.forget(number)
    assert len(pending) == 0


def test_only_the_futures_of_a_lost_stream_fail() -> None:
    pending = Pending()
    futures = [Future[Any]() for _ in range(5)]
    numbers = list(map(pending.add, futures))
    pending.sent(numbers[:2], CLIENT)
    pending.sent(numbers[2:3], "d" * 16)
    pending.sent([99], CLIENT)  # one that was cancelled meanwhile
    pending.lose(CLIENT)
    assert [isinstance(future.exception(0), ReplyLost) for future in futures[:2]] == [True, True]
    assert pending.futures() == futures[2:]
    assert pending.fail_all(Closed, "") == 2
    assert pending.fail_all(Closed) == 1
    assert len({id(future.exception(0)) for future in futures}) == 5


@pytest.mark.parametrize("outcome", [1, ValueError("no")])
def test_a_cancelled_future_is_left_alone(outcome: object) -> None:
    """A naive dispatcher dies of the InvalidStateError, and every later reply with it."""
    future = Future[Any]()
    future.cancel()
    settle(future, outcome)
    assert future.cancelled()


def test_a_future_that_is_cancelled_at_that_very_moment_is_left_alone() -> None:
    class Slow(Future[Any]):
        def done(self) -> bool:
            was_done = super().done()
            self.cancel()
            return was_done

    future = Slow()
    settle(future, 1)
    assert future.cancelled()


def test_a_future_of_asyncio_is_settled_or_left_alone() -> None:
    async def check() -> tuple[object, bool]:
        first, second = asyncio.Future[Any](), asyncio.Future[Any]()
        second.cancel()
        for future in (first, second):
            settle(future, 1)
        return await first, second.cancelled()

    assert asyncio.run(check()) == (1, True)


def test_a_settled_future_keeps_its_outcome() -> None:
    future = Future[Any]()
    settle(future, 1)
    settle(future, ValueError("later"))
    assert future.result() == 1


@pytest.mark.parametrize("json", [b"null", b"0", b'{"a":[1,2.5,"x"]}', b'"\\u00e9"'])
def test_a_result_is_a_plain_value(json: bytes) -> None:
    assert outcome_of(b"=" + json) == {b"null": None, b"0": 0, b'"\\u00e9"': "é"}.get(
        json, {"a": [1, 2.5, "x"]}
    )


def test_what_became_of_an_event_is_the_error_of_its_future() -> None:
    assert isinstance(outcome_of(EXPIRED.encode()), EventExpired)
    dead = outcome_of(Reply(failure=Failure("ValueError: no", "Traceback", 4)).encode())
    assert isinstance(dead, EventFailed)
    assert (dead.error, dead.traceback, dead.attempts, str(dead)) == (
        "ValueError: no", "Traceback", 4, "ValueError: no",
    )  # fmt: skip
    assert "no" not in dead.public.split("dead")[0]


@given(st.binary())
def test_any_bytes_settle_a_future(raw: bytes) -> None:
    outcome = outcome_of(b"=" + raw)
    assert not isinstance(outcome, BaseException) or isinstance(outcome, DecodeError)
    outcome_of(raw)


def test_an_event_carries_its_address_and_its_time_of_expiry() -> None:
    raw = Submission(31, b'{"a":1}', 5, expires=1.5).encode(CLIENT, ahead_ms=100)
    assert Event.decode(raw).body == b'{"a":1}'
    assert addresses_of(raw) == [Address(CLIENT, 31)]
    assert expires_at_ms(raw) == 5 + 100 + 1_500
    assert expires_at_ms(Submission(1, b"1", 5).encode(CLIENT)) is None


def submissions(*words: str) -> list[Submission]:
    """Events of as many bytes as each word is long. One in capitals has an id."""
    return [Submission(1, b"1" * len(word), 1, "id" if word.isupper() else "") for word in words]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["a"], 1),
        (["a", "a", "a"], 3),
        (["a"] * 6, 5),  # the most events
        (["aaaa", "aaaa", "aaa"], 2),  # ten bytes at most
        (["a" * 50, "a"], 1),  # a large one goes alone
        (["A", "a"], 1),
        (["a", "A", "a"], 1),
        (["a", "a", "A"], 2),
        (["A", "A"], 1),
    ],
)
def test_a_write_is_bounded_and_an_id_goes_alone(words: list[str], count: int) -> None:
    assert next_write(submissions(*words), most_events=5, most_bytes=10) == count


@pytest.mark.parametrize("seconds", [None, 1, 0.001, 31_536_000])
def test_seconds_are_a_positive_number(seconds: object) -> None:
    check_seconds("timeout", seconds)


@pytest.mark.parametrize("seconds", [0, -1, 0.0, float("nan"), inf, 31_536_001, True, "5", 10**400])
def test_other_seconds_are_refused_by_name(seconds: object) -> None:
    with pytest.raises(EncodeError, match=r"^expires is a number of seconds, above 0"):
        check_seconds("expires", seconds)
