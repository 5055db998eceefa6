"""Submitted events under faults: each future is settled once, with what the ledger says of its event."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.errors import EventFailed, InDoubt, Unavailable
from microbatch.broker.inspect.audit import Audit
from microbatch.producer import MicroBatcher
from tests.fleet import HASTY, Fleet
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import account_of, check_account
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("dead", "batch", "reply")

EVENTS = 6_000
POISON = 97
PROCESSOR = f"""{HASTY}
from microbatch.producer import Reject

def process(batch):
    time.sleep(0.01)
    return [Reject("poison") if event % {POISON} == 0 else -event for event in batch]
"""


def test_each_future_has_the_outcome_of_its_event(valkey_server: RealServer, tmp_path: Path) -> None:
    settings = {"per_event": True, "frequency": 20, "lease_ttl": 0.5, "max_size": 20, "max_retries": 50}
    with Proxy(valkey_server) as proxy, Fleet(valkey_server, tmp_path, PROCESSOR, **settings) as fleet:
        fleet.scheduler_process()
        pool = fleet.pool(2)
        batchers = [fleet.batcher(redis_url=proxy.url, max_pending=200, block_when_full=60) for _ in range(2)]
        told = Counter[int]()
        with ThreadPoolExecutor(2) as threads:
            parts = [
                threads.submit(_submit_all, mb, range(1 + first, 1 + EVENTS, 2), told)
                for first, mb in enumerate(batchers)
            ]
            for done in range(EVENTS // 12, EVENTS, EVENTS // 12):
                _wait_for(fleet, done, parts)
                proxy.go_on(hang_up=True)
                for pid in pool.workers()[:1]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            futures = {n: future for part in parts for n, future in part.result(120).items()}
        wait(futures.values(), 60)
        assert all(future.done() for future in futures.values())
        wait_until(lambda: not fleet.broker.ledger.in_flight(), message=fleet.state)
        account = account_of(fleet.broker)
        found = Counter(_kind(n, future) for n, future in futures.items())
        assert found["wrong"] == 0
        assert (account.done, account.dead) == (found["result"], found["dead"])
        assert account.recorded == EVENTS - found["not recorded"] - found["in doubt"]
        assert set(told.values()) == {1}
        assert sum(told.values()) == EVENTS
        check_account(fleet.broker)
        assert list(Audit(fleet.broker).findings()) == []


def _submit_all(mb: MicroBatcher, numbers: range, told: Counter[int]) -> dict[int, Future[Any]]:
    futures = {}
    for number in numbers:
        futures[number] = future = mb.submit(number, timeout=40)
        future.add_done_callback(partial(_note, told, number))
    return futures


def _note(told: Counter[int], number: int, _future: Future[Any]) -> None:
    told[number] += 1


def _wait_for(fleet: Fleet, done: int, parts: list[Any]) -> None:
    """Wait until so many events are done, or all that will be."""
    wait_until(
        lambda: fleet.broker.stats.counters().done_events >= done or all(part.done() for part in parts),
        message=fleet.state,
    )


def _kind(number: int, future: Future[Any]) -> str:
    error = future.exception()
    if error is None:
        return "result" if future.result() == -number and number % POISON else "wrong"
    if isinstance(error, EventFailed):
        return "dead" if str(error) == "poison" and number % POISON == 0 else "wrong"
    if isinstance(error, Unavailable):
        return "not recorded"
    return "in doubt" if isinstance(error, TimeoutError | InDoubt) else "wrong"
