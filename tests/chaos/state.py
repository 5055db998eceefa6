"""The state of the server after a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.transport.request import commands, pairs
from microbatch.broker.wire.event import event_body
from tests.chaos.recording import CUTS


@dataclass(frozen=True, slots=True)
class State:
    """What the checker reads in addition to the history."""

    left: str = ""
    """What did not drain."""
    stats: dict[str, int] = field(default_factory=dict)
    entries_added: int | None = 0
    """None if no outcome is added to the stream, because the batcher has no handler."""
    dead: dict[str, list[str]] = field(default_factory=dict)
    """The ids of the events of each dead batch."""
    cuts: list[dict[str, Any]] = field(default_factory=list)
    """What each cut's own transaction noted: batches, token, and who held the lease at that moment."""
    max_retries: int = 2
    max_worker_deaths: int = 3
    max_in_flight: int = 20
    max_pending: int = 100
    findings: list[str] = field(default_factory=list)
    """What `microbatch verify` would find."""
    jobs_kept: list[str] = field(default_factory=list)
    """The keys of jobs that RQ keeps for ever."""


def left(broker: Broker) -> str:
    """What waits, runs or is unhandled, as text; empty if nothing is."""
    waiting, in_flight = broker.events.waiting(), len(broker.ledger.in_flight())
    unhandled = broker.unhandled.count()
    if not (waiting or in_flight or unhandled):
        return ""
    return f"{waiting} events wait, {in_flight} batches are in flight, {unhandled} results are unhandled"


def look(broker: Broker) -> State:
    """Read the current state."""
    stats = pairs(broker.server.do("HGETALL", broker.keys.stats))
    config = broker.config
    return State(
        max_retries=config.max_retries,
        max_worker_deaths=config.max_worker_deaths,
        max_in_flight=broker.in_flight_bound.number,
        max_pending=config.max_pending,
        left=left(broker),
        stats={name.decode(): int(value) for name, value in stats.items() if value.isdigit()},
        entries_added=None if broker.config.per_event else _entries_added(broker),
        dead={batch.id: _ids(broker.dead.events(batch.id)) for batch in broker.dead},
        cuts=[cut for cut in _all_cuts(broker) if cut["batcher"] == config.name],
        findings=[f"{finding.key}: {finding.what}" for finding in Audit(broker).findings()],
        jobs_kept=_jobs_kept(broker),
    )


def _entries_added(broker: Broker) -> int:
    info: Any = broker.server.client.xinfo_stream(broker.keys.results)
    return int(info["entries-added"])


def _all_cuts(broker: Broker) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in broker.server.do("LRANGE", CUTS, 0, -1)]


def _jobs_kept(broker: Broker) -> list[str]:
    """The keys of jobs that never expire, although no batch is in flight any more.

    RQ itself cleans up jobs on their way to a killed worker, every ten minutes.
    """
    lists = list(broker.server.client.scan_iter("rq:queue:*:intermediate*"))
    on_the_way = {raw for found in lists for raw in broker.server.do("LRANGE", found, 0, -1)}
    keys: list[bytes] = [
        key
        for key in broker.server.client.scan_iter("rq:job:*")
        if key.count(b":") == 2 and key.rpartition(b":")[2] not in on_the_way
    ]
    expiries = broker.server.perform(commands(*(("TTL", key) for key in keys)))
    return [key.decode() for key, expiry in zip(keys, expiries, strict=True) if expiry == -1]


def _ids(raws: list[bytes]) -> list[str]:
    return [json.loads(event_body(raw))["id"] for raw in raws]
