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
from microbatch.broker.results import GROUP
from microbatch.producer import BatchInfo
from microbatch.scheduler import reconciler
from tests.fleet import Fleet
from tests.forks import Fork, Forks, When
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import check_account, outcomes, values_of
from tests.waiting import wait_until
from tests.wiretap import SCRIPTS

# Events above 100 fail: those below 200 in their first run only, those above 300 while there is a file "bad".
# With a file "slow" a run takes so long that its heart beats once and shows it in RQ, and a handler so long
# that its results are kept for it.
PROCESSOR = """
from microbatch.broker.batch import PartialFailure
from microbatch.producer import recorder
from microbatch.scheduler import reconciler, scheduler
from microbatch.worker import failing, heart, runner

heart.RUN_TTL_MS = runner.RUN_TTL_MS = failing.RUN_TTL_MS = 700
heart.BEAT_SECONDS = 0.1
heart.LONG_RUN_SECONDS = 0.2
recorder.CHUNK_EVENTS = 2
reconciler.LOOK_AGAIN_MS = scheduler.LOOK_AGAIN_MS = reconciler.ON_THE_WAY_MS = 300
reconciler.RUN_TTL_MS = 700


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
    if Path("slow").exists():
        time.sleep(0.4)
    note("handled", f"{info.id} {result}")
"""
EVENTS = [1, 2, 3, 4]
BAD = (1, 101, 2, 102)
DEAD = (301, 302)


# A word to the scheduler is a hint, and one that leaves passes it on to the next.
pytestmark = pytest.mark.leaves("dead", "batch", "seen", "wake", "aside")


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
    strange_entries: int = 0
    """How many of the stream's entries are no results."""

    def start(self, role: str, *arguments: Any, **settings: Any) -> Fork:
        merged = {**self.fleet.settings, "result_handler": "app:show", **settings}
        return self.forks.start(role, self.fleet.folder, *arguments, **merged)

    def record(self, *events: int) -> None:
        self.fleet.batcher().record_events(events or EVENTS)

    def cut(self) -> None:
        """Record, and have it cut into two batches by a scheduler that then leaves."""
        self.record()
        self.cut_all()

    def cut_twice(self) -> None:
        self.cut()
        self.cut()

    def cut_all(self) -> None:
        with self.fleet.scheduling():
            wait_until(lambda: not self.fleet.broker.events.waiting(), message=self.fleet.state)

    def cut_and_lose_the_jobs(self) -> None:
        self.cut()
        self.server.admin.delete("rq:queue:letters")

    def cut_before_the_clock_was_set_back(self) -> None:
        self.cut_and_lose_the_jobs()
        for batch_id in self.fleet.broker.ledger.in_flight():
            self.server.admin.zincrby(self.fleet.broker.keys.inflight, 3_600_000, batch_id)

    def cut_with_a_stranger(self) -> None:
        """In the ledger there is what is no batch as well."""
        self.cut()
        self.server.admin.zadd(self.fleet.broker.keys.inflight, {"stranger": 1})

    def record_with_a_misfit(self) -> None:
        """One of the keys is of the wrong type."""
        self.record()
        self.server.admin.set(self.fleet.broker.keys.seen, "a string")

    def commit(self) -> None:
        """Everything up to two results that wait for a handler."""
        self.cut()
        self.work(lambda: len(outcomes(self.fleet.broker)) == 2)

    def commit_with_a_stranger(self) -> None:
        """On the stream there is what is no result as well."""
        self.commit()
        self.strange_entries += 1
        self.server.admin.xadd(self.fleet.broker.keys.results, {"no": "result"})

    def deliver_to_one_that_is_gone(self) -> None:
        self.commit()
        admin, key = self.server.admin, self.fleet.broker.keys.results
        admin.xgroup_create(key, GROUP, "0", mkstream=True)
        delivered: Any = admin.xreadgroup(GROUP, "gone", {key: ">"})
        ids = [entry_id for _, entries in delivered for entry_id, _ in entries]
        admin.xclaim(key, GROUP, "gone", 0, ids, idle=60_000)

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

    def findings(self) -> str:
        return "; ".join(f"{finding.key}: {finding.what}" for finding in Audit(self.fleet.broker).findings())

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
            # What is none of ours is put aside a moment later.
            wait_until(lambda: not self.findings(), message=self.findings)
        worker.end()
        for line in self.fleet.noted("handled"):
            batch_id, _, result = line.partition(" ")
            assert self.handled.batches.setdefault(batch_id, json.loads(result)) == json.loads(result)
        dead = [event for batch in broker.dead for event in values_of(broker.dead.events(batch.id))]
        assert sorted(self.handled.events + dead) == sorted(recorded)
        check_account(broker)
        counters = broker.stats.counters()
        added = self.server.admin.xinfo_stream(broker.keys.results)["entries-added"]
        assert added == counters.done_batches + counters.dead_batches + self.strange_entries
        assert counters.recorded(0) == len(recorded) + counters.purged_events


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest.fixture
def scene(
    valkey_server: RealServer,
    tmp_path: Path,
    forks: Forks,
    hasty_reconciler: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setattr(reconciler, "RUN_TTL_MS", 700)
    settings = {"frequency": 20, "lease_ttl": 0.5, "retry_delay": 0.05, "claim_after": 1, "max_size": 2}
    with Fleet(valkey_server, tmp_path, PROCESSOR, **settings) as fleet:
        yield Scene(valkey_server, fleet, forks)
    forks.end_all()


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
    "record": Point("broker.events.Events.record", "producer", ("RPUSH",), recorded=(1,), recorded_before=()),
    "record-guarded": Point(
        "broker.events.Events.record", "producer", (scripts.RECORD.sha,), settings=GUARDED, recorded=(1,)
    ),
    "record-first-chunk": Point(
        "broker.events.Events.recorded", "bulk producer", ("RPUSH", "events"), recorded=(1, 2)
    ),
    "record-next-chunk": Point(
        "broker.events.Events.send", "bulk producer", ("RPUSH", "events"), recorded=(1, 2), recorded_before=()
    ),
    "record-what-lingered": Point(
        "producer.recorder.Recorder.record_stamped",
        "lingering producer",
        ("RPUSH", "events"),
        recorded=(1, 2),
        recorded_before=(),
    ),
    "flush": Point("broker.events.Events.wake", "producer", ("RPUSH", "wake", "EXEC"), recorded=(1,)),
    "set-aside": Point(
        "scheduler.scheduler.Scheduler._set_aside",
        "scheduler",
        (scripts.SET_ASIDE.sha,),
        Scene.record_with_a_misfit,
    ),
    "put-aside": Point(
        "broker.ledger.Ledger.put_aside", "scheduler", (scripts.PUT_ASIDE.sha,), Scene.cut_with_a_stranger
    ),
    "clamp": Point(
        "broker.ledger.Ledger.clamp",
        "scheduler",
        (scripts.CLAMP.sha,),
        Scene.cut_before_the_clock_was_set_back,
    ),
    "cut": Point("broker.ledger.Ledger.cut", "scheduler", ("cut: move", "EXEC"), Scene.record),
    "enqueue-again": Point(
        "broker.ledger.Ledger.enqueue_again",
        "scheduler",
        ("hold: write", "EXEC"),
        Scene.cut_and_lose_the_jobs,
    ),
    "acquire": Point("broker.lease.Lease.acquire", "scheduler", ("SET", "lease", "NX"), Scene.record),
    "renew": Point("broker.lease.Lease.renew", "scheduler", (scripts.RENEW_LEASE.sha,), Scene.record),
    "release": Point(
        "broker.lease.Lease.release", "leaving scheduler", (scripts.RELEASE_LEASE.sha,), Scene.record
    ),
    "seize": Point("broker.lease.Lease.seize", "scheduler", (scripts.SEIZE_LEASE.sha,), Scene.outlive),
    "wait": Point("worker.turns.Turns.wait", "worker", ("BLMOVE", scripts.TAKE_NEXT.sha), Scene.cut),
    "end": Point(
        "worker.turns.Turns.end",
        "worker",
        (scripts.COMMIT.sha, scripts.TAKE_NEXT.sha),
        Scene.cut_twice,
        recorded=(*EVENTS, *EVENTS),
    ),
    "take": Point("broker.ledger.Ledger.take", "worker", (scripts.TAKE.sha,), Scene.requeue, recorded=DEAD),
    "heartbeat": Point("broker.ledger.Ledger.renew", "worker", (scripts.HOLD.sha,), Scene.cut, file="slow"),
    "show": Point(
        "worker.rq_worker.BatchWorker._show_as_started", "worker", ("rq:wip:letters",), Scene.cut, file="slow"
    ),
    "rq-end": Point(
        "worker.rq_worker.BatchWorker.execute_job",
        "worker",
        ("rq:finished:letters",),
        record_bad,
        recorded=BAD,
    ),
    "retry": Point("broker.ledger.Ledger.retry", "worker", (scripts.HOLD.sha,), record_bad, recorded=BAD),
    "commit": Point("broker.ledger.Ledger.commit", "worker", (scripts.COMMIT.sha,), Scene.cut),
    "divide": Point(
        "broker.ledger.Ledger.divide", "worker", (scripts.DIVIDE.sha,), record_bad, LAST_RUN, recorded=BAD
    ),
    "fail-in-part": Point(
        "broker.ledger.Ledger.divide",
        "worker",
        (scripts.DIVIDE.sha,),
        record_bad,
        file="partly",
        recorded=BAD,
    ),
    "bury-in-part": Point(
        "broker.ledger.Ledger.bury",
        "worker",
        (scripts.BURY.sha,),
        record_bad,
        LAST_RUN,
        "partly",
        recorded=BAD,
    ),
    "bury": Point(
        "broker.ledger.Ledger.bury",
        "worker",
        (scripts.BURY.sha,),
        record_bad,
        {**LAST_RUN, "isolate_failures": False},
        recorded=BAD,
    ),
    "revive": Point("broker.dead.Dead.revive", "worker", (scripts.REVIVE.sha,), Scene.requeue, recorded=DEAD),
    "replay": Point("broker.dead.Dead.replay", "replay", (scripts.REPLAY.sha,), Scene.die, recorded=DEAD),
    "purge": Point(
        "broker.dead.Dead.purge", "purge", (scripts.PURGE.sha,), Scene.die, recorded=(), recorded_before=DEAD
    ),
    "deliver": Point("broker.results.Results.wait", "consumer", ("XREADGROUP", "BLOCK"), Scene.commit),
    "take-over": Point(
        "broker.results.Results.take_over", "consumer", ("XAUTOCLAIM",), Scene.deliver_to_one_that_is_gone
    ),
    "keep": Point("broker.results.Results.keep", "consumer", (scripts.KEEP.sha,), Scene.commit, file="slow"),
    "shelve": Point(
        "broker.results.Results.put_aside", "consumer", (scripts.SHELVE.sha,), Scene.commit_with_a_stranger
    ),
    "handled": Point("broker.results.Results.handled", "consumer", (scripts.HANDLED.sha,), Scene.commit),
    "leave": Point("broker.results.Results.leave", "leaving consumer", (scripts.LEAVE.sha,), Scene.commit),
}
LASTING = {"scheduler", "worker", "consumer", "leaving scheduler"}
"""Those who go on when a reply was lost. The others end as a command does, with an error that says so."""


def test_each_script_has_its_point() -> None:
    words = {word for point in POINTS.values() for word in point.words}
    untried = {script.name for script in SCRIPTS if script.sha not in words}
    assert untried == {"cut", "audit", "due"}  # the first is known by its text, the others write nothing


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
    for script in SCRIPTS:
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
