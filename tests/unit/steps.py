"""The steps of an event, for tests of later steps, and the account that always holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from microbatch.broker.broker import Broker
from microbatch.broker.state.account import Account
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.results import is_hint
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.event import encode_event, event_body
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import ClaimedBatch, DueBatch, NewBatch, new_batch
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import Mode, RunRecord
from microbatch.scheduler.flush_marks import FlushMarks

FakeClient: TypeAlias = Any
"""redis-py annotates a client's replies for all its settings. The settings of this client are known."""

TOKEN = "host:1:token"
RECORDED_AT_MS = 900_000
CUT_AT_MS = 950_000
FAILURE = Failure("ValueError: no", "Traceback ...", 1)


def client_of(broker: Broker) -> FakeClient:
    return broker.server.client


def record(broker: Broker, *values: object) -> None:
    """Record events, each one millisecond after the one before."""
    broker.events.record(
        [encode_event(json.dumps(value).encode(), RECORDED_AT_MS + i) for i, value in enumerate(values)]
    )


def lease_of(broker: Broker, token: str = TOKEN) -> Lease:
    """A handle on the lease, with a known token."""
    lease = broker.lease()
    lease.token, lease.ttl_ms = token, 600_000
    return lease


def cut(broker: Broker, *sizes: int, trigger: Trigger = Trigger.SIZE, due_ms: int = 0) -> list[NewBatch]:
    """Cut batches of these sizes, as the active scheduler does. Without ``due_ms``, they are due now."""
    client_of(broker).set(broker.keys.lease, TOKEN)
    batches = [new_batch(Header(trigger, size, CUT_AT_MS)) for size in sizes]
    with lease_of(broker).fence() as fence:
        fence.cut(batches, (), due_ms=due_ms or broker.clock.now_ms())
    return batches


class Leader:
    """The active scheduler's part in flushes: what it has cut, and which flushes are done by that."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._marks = FlushMarks()

    def look(self) -> None:
        """As after each word that a flush is asked for with."""
        client_of(self._broker).set(self._broker.keys.lease, TOKEN)
        with lease_of(self._broker).fence(flushes=True) as fence:
            self._marks.look(fence.waiting, fence.flushes)
        self._note()

    def cut(self, *sizes: int) -> list[NewBatch]:
        batches = cut(self._broker, *sizes)
        self._marks.cut(sum(sizes))
        self._note()
        return batches

    def _note(self) -> None:
        if number := self._marks.reached():
            assert lease_of(self._broker).note_flushed(number)
            self._marks.noted(number)


def record_and_cut(broker: Broker, *values: object) -> str:
    """Record events and cut them into one batch. Returns its id."""
    record(broker, *values)
    return cut(broker, len(values))[0].id


def claim(broker: Broker, batch_id: str, owner: str = "worker", ttl_ms: int = 8_000) -> ClaimedBatch:
    """Claim a batch that can be claimed."""
    now_ms = broker.clock.now_ms()
    claimed = broker.ledger.claim(batch_id, owner=owner, now_ms=now_ms, due_ms=now_ms + ttl_ms)
    assert claimed is not None
    return claimed


def due(broker: Broker, now_ms: int, most: int = 1_000) -> list[DueBatch]:
    """The batches that the scheduler looks at by ``now_ms``: silent workers, retries, batches with a job."""
    survey = broker.recovery.survey(now_ms, retries=most, others=most)
    return [*survey.silent, *survey.retries, *survey.queued]


def failed(broker: Broker, run: RunRecord, *, charged: bool = True, mode: Mode = Mode.WHOLE) -> RunRecord:
    """The run record after this run has failed now."""
    done = broker.stats.counters().done_events
    return run.failed(broker.clock.now_ms(), charged=charged, done=done, mode=mode)


def retry(broker: Broker, claimed: ClaimedBatch, due_ms: int, mode: Mode = Mode.WHOLE) -> RunRecord | None:
    """Put a batch off after a failure. Returns its record, or None if the owner no longer has the batch."""
    then = failed(broker, claimed.run, mode=mode)
    return then if broker.ledger.retry(claimed, then, due_ms=due_ms) else None


def bury(
    broker: Broker, batch_id: str, run: RunRecord, *, failure: Failure = FAILURE, after_ms: int = 0
) -> bool:
    entry = ("v", 1, "failure", failure.encode())
    return broker.ledger.bury(batch_id, run, failure, Ending(entry), now_ms=broker.clock.now_ms() + after_ms)


def values_of(raws: Sequence[bytes]) -> list[Any]:
    return [json.loads(event_body(raw)) for raw in raws]


def batches_of(broker: Broker) -> list[tuple[Trigger, list[Any]]]:
    """The batches in flight, oldest events first: the trigger and the events of each."""
    found = []
    for batch_id in broker.ledger.in_flight():
        header, _, *events = client_of(broker).lrange(broker.keys.batch(batch_id), 0, -1)
        decoded = Header.decode(header)
        assert decoded.size == len(events)
        found.append((decoded.trigger, values_of(events)))
    return sorted(found, key=lambda batch: batch[1])


def outcomes(broker: Broker) -> list[Outcome]:
    """The outcomes that wait for a handler."""
    entries = client_of(broker).xrange(broker.keys.results)
    return [Outcome.decode(fields) for _, fields in entries if not is_hint(fields)]


def account_of(broker: Broker) -> Account:
    return Account.of(broker.stats.counters(), broker.events.waiting())


def check_account(broker: Broker) -> None:
    """Every event that was ever cut is in flight, done or dead, and no other key holds events."""
    client, keys, counters = client_of(broker), broker.keys, broker.stats.counters()
    in_flight = {keys.batch(batch_id) for batch_id in broker.ledger.in_flight()}
    dead = {keys.batch(raw.decode()) for raw in client.zrange(keys.dead, 0, -1)}
    assert in_flight | dead == {key.decode() for key in client.scan_iter(keys.batch("*"))}
    assert not in_flight & dead
    assert counters.dead_batches_now == len(dead)
    assert counters.cut_batches == len(in_flight) + len(dead) + counters.batches_gone
    assert counters.dead_events_now == sum(client.llen(key) - 2 for key in dead)
    events_in_flight = sum(client.llen(key) - 2 for key in in_flight)
    assert counters.cut_events == events_in_flight + counters.dead_events_now + counters.events_gone


def snapshot(client: FakeClient) -> dict[str, Any]:
    """Everything that the server holds."""
    read: dict[bytes, Any] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"stream": client.xrange,
    }
    return {key.decode(): read[client.type(key)](key) for key in client.scan_iter()}
