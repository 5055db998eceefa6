"""Killed right before and after each change of state, or with its reply lost: nothing is lost or doubled."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker import scripts
from microbatch.broker.audit import Audit
from microbatch.producer import BatchInfo
from tests.fleet import Fleet
from tests.forks import Fork, Forks, When
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import check_account, outcomes, values_of
from tests.waiting import wait_until

# Events above 100 fail: those below 200 in their first run only, those above 300 while there is a file "bad".
# A processor takes so long that its heart beats once meanwhile.
PROCESSOR = """
from microbatch.broker.batch import PartialFailure
from microbatch.scheduler import reconciler, scheduler
from microbatch.worker import failing, heart, runner

heart.RUN_TTL_MS = runner.RUN_TTL_MS = failing.RUN_TTL_MS = 700
heart.BEAT_SECONDS = 0.1
reconciler.LOOK_AGAIN_MS = scheduler.LOOK_AGAIN_MS = reconciler.ON_THE_WAY_MS = 300


def process(batch, info: BatchInfo):
    if Path("slow").exists():
        time.sleep(0.4)
    failed = {
        i: "no"
        for i, event in enumerate(batch)
        if 100 < event < 200 and info.attempt == 1 or event > 300 and Path("bad").exists()
    }
    if Path("partly").exists() and failed:
        raise PartialFailure(failed, [event for i, event in enumerate(batch) if i not in failed])
    if failed:
        raise ValueError("no")
    return batch


def show(result, info: BatchInfo):
    note("handled", f"{info.id} {result}")
"""
EVENTS = [1, 2, 3, 4]
BAD = (1, 101, 2, 102)
DEAD = (301, 302)


# A word to the scheduler is a hint, and one that leaves passes it on to the next.
pytestmark = pytest.mark.leaves("dead", "batch", "seen", "wake")


class Handled:
    """A result handler. A result may come twice, if its acknowledgement was lost, and is then the same."""

    def __init__(self) -> None:
        self.batches: dict[str, list[int]] = {}

    def run(self, result: list[int], info: BatchInfo) -> None:
        assert self.batches.setdefault(info.id, result) == result

    @property
    def events(self) -> list[int]:
        return sorted(event for batch in self.batches.values() for event in batch)


@dataclass
class Scene:
    """One batcher, and what was done with it so far."""

    server: RealServer
    fleet: Fleet
    forks: Forks
    handled: Handled = field(default_factory=Handled)

    def start(self, role: str, *arguments: Any, **settings: Any) -> Fork:
        merged = {**self.fleet.settings, "result_handler": "app:show", **settings}
        return self.forks.start(role, self.fleet.folder, *arguments, **merged)

    def record(self, *events: int) -> None:
        self.fleet.batcher().record_events(events or EVENTS)

    def cut(self) -> None:
        """Record, and have it cut by a scheduler that then leaves."""
        self.record()
        self.cut_all()

    def cut_all(self) -> None:
        with self.fleet.scheduling():
            wait_until(lambda: not self.fleet.broker.events.waiting(), message=self.fleet.state)

    def cut_and_lose_the_jobs(self) -> None:
        self.cut()
        self.server.admin.delete("rq:queue:letters")

    def commit(self) -> None:
        """Everything up to a result that waits for a handler."""
        self.cut()
        self.work(lambda: bool(outcomes(self.fleet.broker)))

    def die(self) -> None:
        """Everything up to a dead batch, whose failure was handled."""
        self.fleet.let("bad")
        self.record(*DEAD)
        self.cut_all()
        self.work(lambda: self.fleet.broker.dead.count() == 1)
        (self.fleet.folder / "bad").unlink()

    def requeue(self) -> None:
        """As `die`; then somebody requeues the job by hand."""
        self.die()
        (batch,) = self.fleet.broker.dead
        self.server.admin.lpush("rq:queue:letters", batch.id)
        self.server.admin.hset(f"rq:job:{batch.id}", "enqueued_at", "2999-01-01T00:00:00.000000Z")

    def outlive(self) -> None:
        """A lease whose holder is gone, on a server whose clock was set back by an hour."""
        self.record()
        self.server.admin.set(self.fleet.broker.keys.lease, "gone:1:token", px=3_600_000)

    def work(self, until: Callable[[], bool]) -> None:
        worker = self.start("worker", max_retries=0, isolate_failures=False)
        wait_until(until, message=self.fleet.state)
        worker.end()

    def drain(self, recorded: Sequence[int]) -> None:
        """A fresh scheduler, worker and consumer find everything, once, and leave nothing behind."""
        broker = self.fleet.broker
        for name in ("bad", "slow", "partly"):
            (self.fleet.folder / name).unlink(missing_ok=True)
        worker = self.start("worker")
        with self.fleet.scheduling():
            mb = self.fleet.batcher(result_handler=self.handled, failure_handler=lambda _failure: None)
            self.fleet.finish(mb)
            assert (broker.events.waiting(), broker.ledger.in_flight()) == (0, [])
            assert list(Audit(broker).findings()) == []
        worker.end()
        for line in self.fleet.noted("handled"):
            batch_id, _, result = line.partition(" ")
            assert self.handled.batches.setdefault(batch_id, json.loads(result)) == json.loads(result)
        dead = [event for batch in broker.dead for event in values_of(broker.dead.events(batch.id))]
        assert sorted(self.handled.events + dead) == sorted(recorded)
        check_account(broker)
        counters = broker.stats.counters()
        added = self.server.admin.xinfo_stream(broker.keys.results)["entries-added"]
        assert added == counters.done_batches + counters.dead_batches
        assert counters.recorded(0) == len(recorded) + counters.purged_events


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture
def scene(valkey_server: RealServer, tmp_path: Path, forks: Forks, hasty_reconciler: None) -> Iterator[Scene]:
    settings = {"frequency": 20, "lease_ttl": 0.5, "retry_delay": 0.05, "claim_after": 1}
    with Fleet(valkey_server, tmp_path, PROCESSOR, **settings) as fleet:
        yield Scene(valkey_server, fleet, forks)


@dataclass(frozen=True)
class Point:
    """A change of state: who makes it, when, and by what words it is known on the wire."""

    verb: str
    role: str
    words: tuple[str, ...]
    prepare: Callable[[Scene], None] = lambda _scene: None
    settings: dict[str, Any] = field(default_factory=dict)
    file: str = "none"
    """One that the processor looks for."""
    recorded: tuple[int, ...] = tuple(EVENTS)
    recorded_before: tuple[int, ...] | None = None
    """Where the change makes a difference to what was recorded, what that is without it."""


def record_bad(scene: Scene) -> None:
    scene.record(*BAD)
    scene.cut_all()


GUARDED = {"max_waiting": 100, "dedupe_window": 60}
LAST_RUN = {"max_retries": 0}
POINTS = {
    "record": Point("events.Events.record", "producer", ("RPUSH",), recorded=(1,), recorded_before=()),
    "record-guarded": Point(
        "events.Events.record", "producer", (scripts.RECORD.sha,), settings=GUARDED, recorded=(1,)
    ),
    "flush": Point("events.Events.wake", "producer", ("RPUSH", "wake", "EXEC"), recorded=(1,)),
    "cut": Point("ledger.Ledger.cut", "scheduler", ("cut: move", "EXEC"), Scene.record),
    "enqueue-again": Point(
        "ledger.Ledger.enqueue_again", "scheduler", ("hold: write", "EXEC"), Scene.cut_and_lose_the_jobs
    ),
    "acquire": Point("lease.Lease.acquire", "scheduler", ("SET", "lease", "NX"), Scene.record),
    "renew": Point("lease.Lease.renew", "scheduler", (scripts.RENEW_LEASE.sha,), Scene.record),
    "release": Point("lease.Lease.release", "leaving scheduler", (scripts.RELEASE_LEASE.sha,), Scene.record),
    "seize": Point("lease.Lease.seize", "scheduler", (scripts.SEIZE_LEASE.sha,), Scene.outlive),
    "take": Point("ledger.Ledger.take_next", "worker", (scripts.TAKE_NEXT.sha,), Scene.cut),
    "heartbeat": Point("ledger.Ledger.renew", "worker", (scripts.HOLD.sha,), Scene.cut, file="slow"),
    "retry": Point("ledger.Ledger.retry", "worker", (scripts.HOLD.sha,), record_bad, recorded=BAD),
    "commit": Point("ledger.Ledger.commit", "worker", (scripts.COMMIT.sha,), Scene.cut),
    "divide": Point(
        "ledger.Ledger.divide", "worker", (scripts.DIVIDE.sha,), record_bad, LAST_RUN, recorded=BAD
    ),
    "fail-in-part": Point(
        "ledger.Ledger.divide", "worker", (scripts.DIVIDE.sha,), record_bad, file="partly", recorded=BAD
    ),
    "bury-in-part": Point(
        "ledger.Ledger.bury", "worker", (scripts.BURY.sha,), record_bad, LAST_RUN, "partly", recorded=BAD
    ),
    "bury": Point(
        "ledger.Ledger.bury",
        "worker",
        (scripts.BURY.sha,),
        record_bad,
        {**LAST_RUN, "isolate_failures": False},
        recorded=BAD,
    ),
    "revive": Point("dead.Dead.revive", "worker", (scripts.REVIVE.sha,), Scene.requeue, recorded=DEAD),
    "replay": Point("dead.Dead.replay", "replay", (scripts.REPLAY.sha,), Scene.die, recorded=DEAD),
    "purge": Point(
        "dead.Dead.purge", "purge", (scripts.PURGE.sha,), Scene.die, recorded=(), recorded_before=DEAD
    ),
    "deliver": Point("results.Results.wait", "consumer", ("XREADGROUP", "BLOCK"), Scene.commit),
    "handled": Point("results.Results.handled", "consumer", (scripts.HANDLED.sha,), Scene.commit),
}
LASTING = {"scheduler", "worker", "consumer", "leaving scheduler"}
"""Those who go on when a reply was lost. The others end as a command does, with an error that says so."""

points = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


def finish(scene: Scene, point: Point, *, done: bool) -> None:
    if point.settings is GUARDED:  # then it may simply be repeated
        assert scene.start("producer", **GUARDED).wait() == 0
    without = point.recorded if point.recorded_before is None else point.recorded_before
    scene.drain(point.recorded if done else without)


@pytest.mark.parametrize("when", ["before", "after"])
@points
def test_killed(scene: Scene, point: Point, when: When) -> None:
    scene.fleet.let(point.file)
    point.prepare(scene)
    process = scene.start(point.role, point.verb, when, **point.settings)
    assert process.wait() == -signal.SIGKILL, process.log()
    finish(scene, point, done=when == "after")


@points
def test_a_reply_is_lost(scene: Scene, point: Point) -> None:
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            scene.server.admin.script_load(script.text)
    scene.fleet.let(point.file)
    point.prepare(scene)
    with Proxy(scene.server) as proxy:
        proxy.eat_reply_to(*point.words)
        process = scene.start(point.role, **{**point.settings, "redis_url": proxy.url})
        assert proxy.eaten.wait(20), process.log()
        if point.role in LASTING:
            process.end()
        else:
            assert process.wait() == 1, process.log()
    finish(scene, point, done=True)
