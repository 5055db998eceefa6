"""The slot: what a worker process notes about its claims, as its pool reads it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from math import inf

import pytest

from microbatch.worker.slot import Description, NotedClaim, Slot, slot_file

ABOUT = Description("redis://host:6379/0", "mb", "letters", "rq:queue:mb:letters", "rq:job:", 8_000, 2.0, 15)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = slot_file()
    yield fd
    os.close(fd)


def noted(slot: Slot) -> list[tuple[str, int, bool]]:
    """The owner and the due time of each claim, and whether it has a limit."""
    return [(claim.owner, claim.due_ms, claim.limit_at < inf) for claim in slot.claims()]


def test_a_new_slot_says_nothing(fd: int) -> None:
    assert Slot(fd).claims() == []
    assert Slot(fd).description() is None


def test_another_process_reads_what_is_noted(fd: int) -> None:
    pool, before = Slot(fd), time.monotonic()
    child = os.fork()
    if child == 0:
        worker = Slot(fd)
        worker.describe(ABOUT)
        worker.claim("host:1:a", 1_700_000_000_000)
        worker.begin("host:1:a", 12.5)
        os._exit(0)
    os.waitpid(child, 0)  # its note outlives it
    assert pool.description() == ABOUT
    (claim,) = pool.claims()
    assert claim == NotedClaim("host:1:a", 1_700_000_000_000, claim.claimed_at, 12.5)
    assert before <= claim.claimed_at <= time.monotonic()


def test_the_turns_of_a_worker(fd: int) -> None:
    worker, pool = Slot(fd), Slot(fd)
    worker.claim("a", 1)
    worker.begin("a", 9.0)
    assert noted(pool) == [("a", 1, True)]
    worker.limitless()
    worker.claim("b", 2)  # together with the commit of the batch before
    worker.claim("c", 3)  # again, because the reply was lost
    assert noted(pool) == [("a", 1, False), ("c", 3, False)]
    worker.over()
    assert noted(pool) == [("c", 3, False)]
    worker.begin("c", 9.0)
    worker.claim("d", 4)
    worker.unclaim()  # no job was waiting
    assert noted(pool) == [("c", 3, True)]
    worker.over()
    assert noted(pool) == []


def test_a_batch_of_an_earlier_claim_is_noted_when_it_is_run(fd: int) -> None:
    worker, pool = Slot(fd), Slot(fd)
    worker.claim("a", 1)
    worker.claim("b", 2)
    worker.unclaim()
    worker.begin("a", 9.0)
    assert [claim.owner for claim in pool.claims()] == ["a"]


def test_a_claim_that_is_written_half_is_not_read(fd: int) -> None:
    worker, pool = Slot(fd), Slot(fd)
    worker.claim("host:1:aaaaaaaa", 1)
    at = pool._memory.find(b"aaaaaaaa")
    pool._memory[at : at + 4] = b"bbbb"
    assert pool.claims() == []
    worker.claim("host:1:bbbbbbbb", 1)
    assert noted(pool) == [("host:1:bbbbbbbb", 1, False)]


def test_what_does_not_fit_is_refused(fd: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        Slot(fd).describe(Description(8_000 * "x", "", "", "", "", 1, 1, 1))


def test_a_reader_in_another_process_never_sees_half_of_a_limit() -> None:
    """A limit of 0.0 would have the pool end a healthy worker."""
    fd = slot_file()
    worker, pool = Slot(fd), Slot(fd)
    worker.claim("a", 1)
    worker.begin("a", 1.0)
    if not (pid := os.fork()):
        while True:
            worker.begin("a", 1.0)
            worker.begin("a", 2.0)
    try:
        seen = {claim.limit_at for _ in range(20_000) for claim in pool.claims()}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    assert seen == {1.0, 2.0}
