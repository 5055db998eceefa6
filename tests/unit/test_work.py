"""Work: a thread and a task of asyncio make its moves alike, and get its answer or its error."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from microbatch.producer.work import Move, Pause, Work, drive, drive_async

Drive = Callable[[Work[Any], Callable[[Move], Any]], Any]


def drive_on_asyncio(work: Work[Any], make: Callable[[Move], Any]) -> Any:
    async def make_it(move: Move) -> Any:
        await asyncio.sleep(0)
        return make(move)

    return asyncio.run(drive_async(work, make_it))


@pytest.fixture(params=[drive, drive_on_asyncio], ids=["thread", "asyncio"])
def do(request: pytest.FixtureRequest) -> Drive:
    drive_it: Drive = request.param
    return drive_it


class Failed(Exception):
    """An error of a move."""


def fail(_move: Move) -> None:
    raise Failed


def test_each_move_is_made_and_answered(do: Drive) -> None:
    def work() -> Work[list[float]]:
        first = yield Pause(1)
        second = yield Pause(2)
        return [first, second]

    def make(move: Move) -> float:
        assert isinstance(move, Pause)
        return 10 * move.seconds

    assert do(work(), make) == [10, 20]


def test_work_without_a_move_has_an_answer(do: Drive) -> None:
    def work() -> Work[str]:
        yield from ()
        return "an answer"

    assert do(work(), fail) == "an answer"


def test_the_error_of_a_move_is_thrown_into_the_work_which_may_go_on(do: Drive) -> None:
    def work() -> Work[str]:
        try:
            yield Pause(1)
        except Failed:
            return "went on"
        return "not reached"

    assert do(work(), fail) == "went on"


@pytest.mark.parametrize("error", [Failed(), StopIteration(), SystemExit(3)])
def test_after_an_error_the_work_still_makes_its_last_moves(do: Drive, error: BaseException) -> None:
    """As a member does that acknowledges what is handled, when a handler raises or is interrupted."""
    made: list[Move] = []

    def work() -> Work[None]:
        try:
            yield Pause(1)
        finally:
            yield Pause(2)

    def make(move: Move) -> None:
        made.append(move)
        if move == Pause(1):
            raise error

    wanted = RuntimeError if isinstance(error, StopIteration) else type(error)  # Python's, from a generator
    with pytest.raises(wanted):
        do(work(), make)
    assert made == [Pause(1), Pause(2)]


def test_a_cancelled_task_still_makes_the_last_moves() -> None:
    made: list[Move] = []

    def work() -> Work[None]:
        try:
            yield Pause(1)
        finally:
            yield Pause(0)

    async def make(move: Move) -> None:
        made.append(move)
        await asyncio.sleep(60 if move == Pause(1) else 0)

    async def cancel() -> None:
        task = asyncio.create_task(drive_async(work(), make))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert made == [Pause(1), Pause(0)]


def test_an_error_is_free_as_soon_as_it_is_handled() -> None:
    """The driver keeps no error in a variable that the error's own traceback reaches."""

    def work() -> Work[None]:
        yield Pause(1)

    gc.disable()
    try:
        seen: list[weakref.ref[Failed]] = []

        def make(_move: Move) -> None:
            error = Failed()
            seen.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        with pytest.raises(Failed):
            drive(work(), make)
        assert seen[0]() is None
    finally:
        gc.enable()
