"""A scene: one batcher on a real server, what was done with it so far, and what must be left at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from microbatch.broker.inspect.audit import Audit
from microbatch.broker.state.results import GROUP
from microbatch.broker.state.wake import Wake
from microbatch.producer import BatchInfo
from tests.fleet import Fleet
from tests.processes import Process
from tests.servers import RealServer
from tests.unit.steps import account_of, check_account, outcomes, values_of
from tests.waiting import wait_until

# Events above 100 fail: those below 200 in their first run only, those above 300 while the file "bad" exists.
# While the file "slow" exists, a run takes long enough for a heartbeat and for RQ to show it, and a handler
# takes long enough for its claim to be extended.
PROCESSOR = """
from microbatch.broker.wire.batch import PartialFailure
from microbatch.producer import recorder
from tests.times import hurry_for_good

hurry_for_good(run_ttl_ms=700, beat_seconds=0.1, long_run_seconds=0.2, look_again_ms=300, on_the_way_ms=300)
recorder.CHUNK_EVENTS = 2


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


class Handled:
    """A result handler. A result may come twice if its acknowledgement was lost. It must then be the same."""

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
    handled: Handled = field(default_factory=Handled)
    strange_entries: int = 0
    """How many entries of the stream are not results."""

    def start(self, role: str, *killed_at: str, **settings: Any) -> Process:
        """Start a process in one of the roles. ``killed_at``: the verb at which it is killed, and when."""
        return self.fleet.module(
            "tests.roles", role, *killed_at, **{"result_handler": "app:show", **settings}
        )

    def record(self, *events: int) -> None:
        self.fleet.batcher().record_events(events or EVENTS)

    def record_and_flush(self) -> None:
        self.record()
        self.fleet.broker.flushes.ask(Wake.FLUSH)

    def cut(self) -> None:
        """Record events, and let a scheduler cut them into two batches and leave."""
        self.record()
        self.cut_all()

    def cut_all(self) -> None:
        with self.fleet.scheduling():
            wait_until(lambda: not self.fleet.broker.events.waiting(), message=self.fleet.state)

    def cut_and_lose_the_jobs(self) -> None:
        self.cut()
        self.server.admin.delete("rq:queue:mb:letters")

    def cut_before_the_clock_was_set_back(self) -> None:
        self.cut_and_lose_the_jobs()
        for batch_id in self.fleet.broker.ledger.in_flight():
            self.server.admin.zincrby(self.fleet.broker.keys.inflight, 3_600_000, batch_id)

    def cut_with_a_stranger(self) -> None:
        """Cut, and put something that is not a batch into the ledger."""
        self.cut()
        self.server.admin.zadd(self.fleet.broker.keys.inflight, {"stranger": 1})

    def record_with_a_misfit(self) -> None:
        """Record events, and give one of the keys the wrong type."""
        self.record()
        self.server.admin.set(self.fleet.broker.keys.seen, "a string")

    def commit(self) -> None:
        """Do everything up to two results that wait for a handler."""
        self.cut()
        self.work(lambda: len(outcomes(self.fleet.broker)) == 2)

    def commit_with_a_stranger(self) -> None:
        """Commit, and add an entry that is not a result to the stream."""
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
        """Do everything up to a dead batch whose failure was handled."""
        self.fleet.let("bad")
        self.record(*DEAD)
        self.cut_all()
        self.work(lambda: self.fleet.broker.dead.count() == 1)
        (self.fleet.folder / "bad").unlink()

    def die_long_ago(self) -> None:
        """Like `die`, but a day earlier."""
        self.die()
        (batch,) = self.fleet.broker.dead
        self.server.admin.zincrby(self.fleet.broker.keys.dead, -86_400_000, batch.id)

    def requeue(self) -> None:
        """Like `die`; then somebody requeues the job by hand."""
        self.die()
        (batch,) = self.fleet.broker.dead
        self.server.admin.lpush("rq:queue:mb:letters", batch.id)
        self.server.admin.hset(f"rq:job:{batch.id}", "enqueued_at", "2999-01-01T00:00:00.000000Z")

    def outlive(self) -> None:
        """Leave a lease whose holder is gone, on a server whose clock was set back by an hour."""
        self.record()
        self.server.admin.set(self.fleet.broker.keys.lease, "gone:1:token", px=3_600_000)

    def findings(self) -> str:
        return "; ".join(f"{finding.key}: {finding.what}" for finding in Audit(self.fleet.broker).findings())

    def work(self, until: Callable[[], bool]) -> None:
        worker = self.start("worker", max_retries=0, isolate_failures=False)
        wait_until(until, message=self.fleet.state)
        worker.end()

    def drain(self, recorded: Sequence[int]) -> None:
        """A fresh scheduler, worker and consumer must find everything once, and leave nothing behind."""
        broker = self.fleet.broker
        for name in ("bad", "slow", "partly"):
            (self.fleet.folder / name).unlink(missing_ok=True)
        worker = self.start("worker")
        with self.fleet.scheduling():
            mb = self.fleet.batcher(result_handler=self.handled, failure_handler=lambda _failure: None)
            self.fleet.finish(mb)
            assert (broker.events.waiting(), broker.ledger.in_flight()) == (0, [])
            # Values that Microbatch has not written are quarantined a moment later.
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
        assert account_of(broker).recorded == len(recorded) + counters.purged_events
