"""The status of a batcher at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.risks import risks
from microbatch.broker.inspect.snapshot import Snapshot, take_snapshot
from microbatch.broker.state.lease import names
from microbatch.broker.state.stats import Rates
from microbatch.broker.state.unhandled import Neglect
from microbatch.broker.wire.batch import moment
from microbatch.ops.rq_facts import WorkerFact, workers_of


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a batcher, as its server knows it."""

    batcher: str
    server: str
    """The server's URL, fit to be shown."""
    count: Snapshot
    rates: Rates
    workers: list[WorkerFact]
    settings: dict[str, int]
    """The settings of the active scheduler; empty if there never was one."""
    held_back: str
    """Why cutting is held back; empty if it is not."""
    neglect: Neglect | None
    """The results that wait for a handler while there is no consumer."""
    risks: list[str]
    """The ways in which the server could lose what it has acknowledged."""

    @property
    def oldest_waiting_age_ms(self) -> int | None:
        return age_ms(self.count, self.count.oldest_waiting_ms)

    @property
    def oldest_in_flight_age_ms(self) -> int | None:
        return age_ms(self.count, self.count.oldest_in_flight_ms)

    def heartbeat_age_ms(self, worker: WorkerFact) -> int | None:
        return age_ms(self.count, worker.heartbeat_ms)

    def as_json(self) -> dict[str, Any]:
        """The status as `microbatch status --json` prints it. Its fields must not be removed or renamed."""
        return {
            **snapshot_as_json(self.batcher, self.server, self.count),
            "rates": {
                "recorded_per_second": round(self.rates.recorded, 3),
                "done_per_second": round(self.rates.done, 3),
            },
            "workers": [
                {
                    "name": worker.name,
                    "state": worker.state,
                    "batch": worker.batch,
                    "heartbeat_age_ms": self.heartbeat_age_ms(worker),
                }
                for worker in self.workers
            ],
            "settings": self.settings or None,
            "held_back": self.held_back or None,
            "neglected": None if self.neglect is None else str(self.neglect),
            "risks": self.risks,
        }


def age_ms(count: Snapshot, since_ms: int | None) -> int | None:
    """The age of something at the time of the snapshot; None if ``since_ms`` is None."""
    # Never negative: another clock may be ahead of the server's.
    return None if since_ms is None else max(0, count.at_ms - since_ms)


def snapshot_as_json(batcher: str, server: str, count: Snapshot) -> dict[str, Any]:
    """A snapshot as `microbatch status --json` and `microbatch list --json` print it."""
    counters = count.counters
    return {
        "batcher": batcher,
        "server": server,
        "at": moment(count.at_ms),
        "waiting": {
            "events": count.waiting_events,
            "oldest_age_ms": age_ms(count, count.oldest_waiting_ms),
        },
        "in_flight": {
            "events": count.account.in_flight,
            "batches": count.in_flight_batches,
            "oldest_age_ms": age_ms(count, count.oldest_in_flight_ms),
        },
        "done": {"events": counters.done_events, "batches": counters.done_batches},
        "dead": {"events": counters.dead_events_now, "batches": counters.dead_batches_now},
        "expired": {"events": counters.expired_events},
        "unhandled_results": count.unhandled,
        "scheduler": schedulers(count),
    }


def schedulers(count: Snapshot) -> dict[str, Any]:
    """The name of the ``active`` scheduler, or None, and a list of the ``standby`` ones."""
    if count.active is None:
        return {"active": None, "standby": names(count.standbys)}
    active, *standbys = names([count.active, *count.standbys])
    return {"active": active, "standby": standbys}


def read_status(broker: Broker) -> Status:
    """Read the status from the server. Raises ServerError if the server can't be asked."""
    count = take_snapshot(broker)
    return Status(
        batcher=broker.config.name,
        server=broker.server.where,
        count=count,
        rates=broker.stats.rates(count.at_ms),
        workers=workers_of(broker),
        settings=broker.published_config(),
        held_back=broker.held_back(),
        neglect=broker.unhandled.neglect(count.at_ms),
        risks=risks(broker.server),
    )
