"""The loop: a thread that does one step again and again, started and stopped in any order."""

from __future__ import annotations

import threading

import pytest

from microbatch.broker.process.loop import Loop
from tests.waiting import wait_until


def test_it_does_the_step_again_and_again_until_it_is_stopped() -> None:
    done = list[int]()
    loop = Loop(lambda: done.append(threading.get_ident()), 0.001, "a loop")
    loop.start()
    loop.start()
    wait_until(lambda: len(done) > 2)
    loop.stop()
    loop.stop()
    count = len(done)
    assert len(set(done)) == 1
    assert "a loop" not in {thread.name for thread in threading.enumerate()}
    assert len(done) == count


def test_one_that_was_stopped_before_it_was_started_never_runs() -> None:
    loop = Loop(lambda: None, 0.001, "a loop")
    loop.stop()
    loop.start()
    assert "a loop" not in {thread.name for thread in threading.enumerate()}


def test_a_step_may_stop_its_own_loop() -> None:
    def step() -> None:
        loop.stop()
        ended.set()

    ended = threading.Event()
    loop = Loop(step, 0.001, "a loop")
    loop.start()
    assert ended.wait(10)
    loop.stop()


def test_a_step_that_raises_is_not_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    count = list[int]()

    def step() -> None:
        count.append(1)
        raise ValueError("no")

    loop = Loop(step, 0.001, "a loop")
    loop.start()
    wait_until(lambda: len(count) > 2)
    loop.stop()
    assert "ValueError: no" in capsys.readouterr().err
