"""Processes are killed around each change of state, or lose its reply: nothing is lost or doubled."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.lua import scripts
from tests.fleet import Fleet
from tests.proxy import Proxy
from tests.roles import When
from tests.scene import BAD, DEAD, EVENTS, PROCESSOR, Scene
from tests.servers import RealServer
from tests.times import hurry
from tests.wiretap import SCRIPTS

# A wake-up word is only a hint. A scheduler that leaves passes it on to the next one.
pytestmark = pytest.mark.leaves("dead", "batch", "seen", "wake", "quarantine")


@pytest.fixture
def scene(
    valkey_server: RealServer,
    tmp_path: Path,
    hasty_reconciler: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    hurry(monkeypatch, run_ttl_ms=700)
    settings = {"frequency": 20, "lease_ttl": 0.5, "retry_delay": 0.05, "claim_after": 1, "max_size": 2}
    with Fleet(valkey_server, tmp_path, PROCESSOR, **settings) as fleet:
        yield Scene(valkey_server, fleet)


@dataclass(frozen=True)
class Point:
    """A change of state: the verb, the role that calls it, and the words that identify it on the wire."""

    verb: str
    role: str
    words: tuple[str, ...]
    prepare: Callable[[Scene], None] = lambda _scene: None
    settings: dict[str, Any] = field(default_factory=dict)
    file: str = "none"
    """A file that the processor looks for."""
    recorded: tuple[int, ...] = tuple(EVENTS)
    recorded_before: tuple[int, ...] | None = None
    """The events that are recorded if the change is not made, where this makes a difference."""


def record_bad(scene: Scene) -> None:
    scene.record(*BAD)
    scene.cut_all()


GUARDED = {"max_waiting": 100, "dedupe_window": 60}
EAGER_GUARDED = {**GUARDED, "eager": True}
LAST_RUN = {"max_retries": 0}
POINTS = {
    "record": Point("state.events.Events.append", "producer", ("RPUSH",), recorded=(1,), recorded_before=()),
    "record-guarded": Point(
        "state.events.Events.record",
        "producer",
        (scripts.RECORD.sha,),
        settings=GUARDED,
        recorded=(1,),
    ),
    "record-eager": Point(
        "state.events.Events.append",
        "producer",
        (scripts.RECORD.sha,),
        settings={"eager": True},
        recorded=(1,),
        recorded_before=(),
    ),
    "record-eager-guarded": Point(
        "state.events.Events.record",
        "producer",
        (scripts.RECORD.sha,),
        settings=EAGER_GUARDED,
        recorded=(1,),
    ),
    "record-first-chunk": Point(
        "broker.transport.pending_reply.PendingReply.reply",
        "bulk producer",
        ("RPUSH", "events"),
        recorded=(1, 2),
    ),
    "record-next-chunk": Point(
        "state.events.Events.append",
        "bulk producer",
        ("RPUSH", "events"),
        recorded=(1, 2),
        recorded_before=(),
    ),
    "record-what-lingered": Point(
        "producer.recorder.Recorder.record_stamped",
        "lingering producer",
        ("RPUSH", "events"),
        recorded=(1, 2),
        recorded_before=(),
    ),
    "flush": Point("state.flushes.Flushes.ask", "producer", ("HINCRBY", "flushes", "EXEC"), recorded=(1,)),
    "flushed": Point(
        "state.lease.Lease.note_flushed", "scheduler", (scripts.FLUSHED.sha,), Scene.record_and_flush
    ),
    "quarantine-keys": Point(
        "scheduler.maintenance.Maintenance._set_quarantine",
        "scheduler",
        (scripts.QUARANTINE_KEYS.sha,),
        Scene.record_with_a_misfit,
    ),
    "quarantine-batch": Point(
        "state.recovery.Recovery.quarantine",
        "scheduler",
        (scripts.QUARANTINE_BATCH.sha,),
        Scene.cut_with_a_stranger,
    ),
    "clamp": Point(
        "state.recovery.Recovery.clamp",
        "scheduler",
        (scripts.CLAMP.sha,),
        Scene.cut_before_the_clock_was_set_back,
    ),
    "cut": Point("state.fence.Fence.cut", "scheduler", ("cut: move", "EXEC"), Scene.record),
    "cut-eagerly": Point(
        "state.fence.Fence.cut", "scheduler", ("cut: move", "EXEC"), Scene.record, {"eager": True}
    ),
    "count-workers": Point(
        "scheduler.queue.JobQueue.workers",
        "scheduler",
        ("SMEMBERS", "rq:workers:mb:letters"),
        Scene.record,
        {"eager": True},
    ),
    "enqueue-again": Point(
        "state.fence.Fence.enqueue_again",
        "scheduler",
        ("swap_run: write", "EXEC"),
        Scene.cut_and_lose_the_jobs,
    ),
    "reschedule": Point(
        "state.recovery.Recovery.reschedule", "scheduler", (scripts.RESCHEDULE.sha,), Scene.cut
    ),
    "hold-back": Point(
        "state.recovery.Recovery.room",
        "scheduler",
        (scripts.HOLD_BACK.sha,),
        Scene.record,
        {"max_in_flight": 1},
    ),
    "acquire": Point("state.lease.Lease.acquire", "scheduler", ("SET", "lease", "NX"), Scene.record),
    "renew": Point("state.lease.Lease.renew", "scheduler", (scripts.RENEW_LEASE.sha,), Scene.record),
    "release": Point(
        "state.lease.Lease.release", "leaving scheduler", (scripts.RELEASE_LEASE.sha,), Scene.record
    ),
    "seize": Point("state.lease.Lease.seize", "scheduler", (scripts.SEIZE_LEASE.sha,), Scene.outlive),
    "wait": Point("worker.turns.Turns.wait", "worker", ("BLMOVE", scripts.CLAIM_NEXT.sha), Scene.cut),
    "end": Point(
        "worker.turns.Turns.commit_and_claim_next",
        "worker",
        (scripts.COMMIT.sha, scripts.CLAIM_NEXT.sha),
        Scene.cut,
    ),
    "claim": Point("state.ledger.Ledger.claim", "worker", (scripts.CLAIM.sha,), Scene.requeue, recorded=DEAD),
    "find": Point("state.claims.Claims.find", "worker", (scripts.FIND_CLAIM.sha,), Scene.cut, file="slow"),
    "heartbeat": Point(
        "state.claims.Claims.renew", "worker", (scripts.SWAP_RUN.sha,), Scene.cut, file="slow"
    ),
    "give-back": Point(
        "state.claims.Claims.give_back", "stopping worker", (scripts.GIVE_BACK.sha,), Scene.cut
    ),
    "show": Point(
        "worker.rq.worker.BatchWorker._show_as_started",
        "worker",
        ("rq:wip:mb:letters",),
        Scene.cut,
        file="slow",
    ),
    "rq-end": Point(
        "worker.rq.worker.BatchWorker.execute_job",
        "worker",
        ("rq:finished:mb:letters",),
        record_bad,
        recorded=BAD,
    ),
    "fail": Point(
        "state.breaker.Breaker.note_failure", "worker", (scripts.FAIL.sha,), record_bad, recorded=BAD
    ),
    "retry": Point("state.ledger.Ledger.retry", "worker", (scripts.RETRY.sha,), record_bad, recorded=BAD),
    "commit": Point("state.ledger.Ledger.commit", "worker", (scripts.COMMIT.sha,), Scene.cut),
    "divide": Point(
        "state.ledger.Ledger.divide",
        "worker",
        (scripts.DIVIDE.sha,),
        record_bad,
        LAST_RUN,
        recorded=BAD,
    ),
    "fail-in-part": Point(
        "state.ledger.Ledger.divide",
        "worker",
        (scripts.DIVIDE.sha,),
        record_bad,
        file="partly",
        recorded=BAD,
    ),
    "bury-in-part": Point(
        "state.ledger.Ledger.bury",
        "worker",
        (scripts.BURY.sha,),
        record_bad,
        LAST_RUN,
        "partly",
        recorded=BAD,
    ),
    "bury": Point(
        "state.ledger.Ledger.bury",
        "worker",
        (scripts.BURY.sha,),
        record_bad,
        {**LAST_RUN, "isolate_failures": False},
        recorded=BAD,
    ),
    "requeue": Point(
        "state.dead.Dead.requeue", "worker", (scripts.REQUEUE.sha,), Scene.requeue, recorded=DEAD
    ),
    "replay": Point("state.dead.Dead.replay", "replay", (scripts.REPLAY.sha,), Scene.die, recorded=DEAD),
    "purge": Point(
        "state.dead.Dead.purge",
        "purge",
        (scripts.PURGE.sha,),
        Scene.die,
        recorded=(),
        recorded_before=DEAD,
    ),
    "retire": Point(
        "state.dead.Dead.retire",
        "scheduler",
        (scripts.RETIRE.sha,),
        Scene.die_long_ago,
        {"keep_dead": "1h"},
        recorded=(),
        recorded_before=DEAD,
    ),
    "deliver": Point("state.results.Results.wait", "consumer", ("XREADGROUP", "BLOCK"), Scene.commit),
    "take-over": Point(
        "state.results.Results.take_over",
        "consumer",
        ("XAUTOCLAIM",),
        Scene.deliver_to_one_that_is_gone,
    ),
    "extend-claim": Point(
        "state.results.Results.extend_claim",
        "consumer",
        (scripts.EXTEND_CLAIM.sha,),
        Scene.commit,
        file="slow",
    ),
    "quarantine-entry": Point(
        "state.results.Results.quarantine",
        "consumer",
        (scripts.QUARANTINE_ENTRY.sha,),
        Scene.commit_with_a_stranger,
    ),
    "acknowledge": Point(
        "state.results.Results.acknowledge", "consumer", (scripts.ACKNOWLEDGE.sha,), Scene.commit
    ),
    "hand-back": Point(
        "state.results.Results._hand_back",
        "consumer that hands back",
        (scripts.HAND_BACK.sha,),
        Scene.commit,
    ),
    "leave-group": Point(
        "state.results.Results.leave_group", "leaving consumer", (scripts.LEAVE_GROUP.sha,), Scene.commit
    ),
}
LASTING = {"scheduler", "worker", "consumer", "leaving scheduler"}
"""Roles that continue when a reply is lost. The others end with an error, as a command does."""
QUIET = {"leaving consumer", "consumer that hands back"}
"""Roles that end without an error: other processes find out on their own."""


def test_each_script_has_its_point() -> None:
    words = {word for point in POINTS.values() for word in point.words}
    untried = {script.name for script in SCRIPTS if script.sha not in words}
    assert untried == {"cut", "audit", "due"}  # "cut" is identified by its text, the others write nothing


points = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


def finish(scene: Scene, point: Point, *, done: bool) -> None:
    if "dedupe_window" in point.settings:  # then it may be repeated
        assert scene.start("producer", **point.settings).wait() == 0
    without = point.recorded if point.recorded_before is None else point.recorded_before
    scene.drain(point.recorded if done else without)


@pytest.mark.parametrize("when", ["before", "after"])
@points
def test_killed(scene: Scene, point: Point, when: When) -> None:
    scene.fleet.let(point.file)
    point.prepare(scene)
    process = scene.start(point.role, point.verb, when, **point.settings)
    assert process.wait() == -signal.SIGKILL, process.output
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
        assert proxy.eaten.wait(20), process.output
        if point.role in LASTING:
            process.end()
        else:
            assert process.wait() == int(point.role not in QUIET), process.output
    finish(scene, point, done=True)
