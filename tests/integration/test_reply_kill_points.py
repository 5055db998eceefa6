"""A worker is killed around each script that replies, or loses its reply: each future is settled once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.errors import EventExpired, EventFailed
from microbatch.broker.lua import scripts
from microbatch.producer.pending import Pending
from tests.fleet import Fleet
from tests.proxy import Proxy
from tests.roles import When
from tests.servers import RealServer
from tests.times import hurry
from tests.unit.steps import account_of, check_account
from tests.waiting import wait_until
from tests.wiretap import SCRIPTS

pytestmark = pytest.mark.leaves("dead", "batch")

PROCESSOR = """
from microbatch.producer import Reject
from tests.times import hurry_for_good

hurry_for_good(run_ttl_ms=700, beat_seconds=0.1, look_again_ms=300, on_the_way_ms=300)

def process(batch):
    return [Reject("no") if event == "bad" else event.upper() for event in batch]
"""


@dataclass(frozen=True)
class Point:
    """A script that replies, the events for which it is called, and what becomes of each."""

    verb: str
    words: tuple[str, ...]
    outcomes: dict[str, Any]


POINTS = {
    "commit": Point(
        "worker.turns.Turns.commit_and_claim_next",
        (scripts.COMMIT.sha, scripts.CLAIM_NEXT.sha),
        {"a": "A", "late": EventExpired, "b": "B"},
    ),
    "divide": Point(
        "state.ledger.Ledger.divide",
        (scripts.DIVIDE.sha,),
        {"a": "A", "bad": EventFailed, "late": EventExpired, "b": "B"},
    ),
    "bury-a-part": Point(
        "state.ledger.Ledger.bury", (scripts.BURY.sha,), {"a": "A", "bad": EventFailed, "b": "B"}
    ),
    "bury": Point("state.ledger.Ledger.bury", (scripts.BURY.sha,), {"bad": EventFailed}),
}
points = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


@pytest.fixture
def fleet(
    valkey_server: RealServer, tmp_path: Path, hasty_reconciler: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    hurry(monkeypatch, run_ttl_ms=700)
    settings = {"per_event": True, "frequency": 20, "lease_ttl": 0.5, "retry_delay": 0.05}
    with Fleet(valkey_server, tmp_path, PROCESSOR, **settings) as fleet:
        yield fleet


class Submitted:
    """The events of a point, submitted and cut into one batch, and what is told of them."""

    def __init__(self, fleet: Fleet, point: Point, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fleet = fleet
        self._wanted = point.outcomes
        self._told: list[int] = []
        settle = Pending.settle

        def noted(pending: Pending, number: int, outcome: object) -> bool:
            self._told.append(number)
            return settle(pending, number, outcome)

        monkeypatch.setattr(Pending, "settle", noted)
        mb = fleet.batcher()
        self._futures = {
            event: mb.submit(event, expires=0.001 if event == "late" else None) for event in point.outcomes
        }
        wait_until(lambda: fleet.broker.events.waiting() == len(point.outcomes), message=fleet.state)
        with fleet.scheduling():
            wait_until(lambda: not fleet.broker.events.waiting(), message=fleet.state)

    def check(self) -> None:
        """Let everything run, and check that each caller was told once what the ledger says."""
        self._fleet.scheduler()
        worker = self._fleet.module("tests.roles", "worker")
        wait(self._futures.values(), 60)
        for event, wanted in self._wanted.items():
            future = self._futures[event]
            assert future.done(), f"{event} is pending: {self._fleet.state()}\n{worker.output}"
            got = type(future.exception()) if future.exception() else future.result()
            assert got == wanted
        broker = self._fleet.broker
        wait_until(lambda: not broker.ledger.in_flight(), message=self._fleet.state)
        account, outcomes = account_of(broker), list(self._wanted.values())
        assert (account.dead, account.expired) == (outcomes.count(EventFailed), outcomes.count(EventExpired))
        assert account.recorded == len(outcomes)
        check_account(broker)
        assert sorted(self._told) == list(range(1, len(outcomes) + 1))


@pytest.mark.parametrize("when", ["before", "after"])
@points
def test_killed(fleet: Fleet, point: Point, when: When, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = Submitted(fleet, point, monkeypatch)
    process = fleet.module("tests.roles", "worker", point.verb, when)
    assert process.wait() == -signal.SIGKILL, process.output
    submitted.check()


@points
def test_a_reply_is_lost(
    fleet: Fleet, valkey_server: RealServer, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in SCRIPTS:
        valkey_server.admin.script_load(script.text)
    submitted = Submitted(fleet, point, monkeypatch)
    with Proxy(valkey_server) as proxy:
        proxy.eat_reply_to(*point.words)
        process = fleet.module("tests.roles", "worker", redis_url=proxy.url)
        assert proxy.eaten.wait(20), process.output
        process.end()
    submitted.check()
