"""Every script stays short: batches are bounded, and large work is done in steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbatch.broker.inspect.audit import Audit
from microbatch.broker.policy.bounds import MAX_BYTES
from microbatch.scheduler.scheduler import Scheduler
from tests.doubles import ManualTicker
from tests.fleet import Fleet
from tests.servers import RealServer

LENGTHS = "def process(batch): return [len(event) for event in batch]"
LARGE = 900_000


@pytest.mark.parametrize(
    ("events", "max_size", "cut"),
    [
        (20, 20, [8, 8, 4]),  # one full batch is due
        (23, 20, [8, 8, 4]),
        (23, 3, [3, 3, 3, 3, 3, 3, 3]),
        (18, 9, [8, 8, 2]),
    ],
)
def test_large_events_that_are_due_are_cut_at_once_and_no_job_is_left_over(
    server: RealServer, tmp_path: Path, events: int, max_size: int, cut: list[int]
) -> None:
    handled: list[int] = []
    with Fleet(server, tmp_path, LENGTHS, max_size=max_size, frequency=600_000) as fleet:
        batcher = fleet.batcher(result_handler=handled.extend)
        for _ in range(events):
            batcher.record_event("x" * (LARGE - 2))
        scheduler = Scheduler(fleet.config(), ticker=ManualTicker())
        try:
            assert scheduler.run_once() == len(cut)
        finally:
            scheduler.stop()
            scheduler.run()
        assert sizes(fleet, server) == sorted(cut, reverse=True)
        assert fleet.broker.events.waiting() == events - sum(cut)
        assert jobs(server) == sorted(fleet.broker.ledger.in_flight())
        assert server.admin.llen("rq:queue:mb:letters") == len(cut)
        assert list(Audit(fleet.broker).findings()) == []
        fleet.worker()
        fleet.scheduler()
        fleet.finish(batcher)
    assert handled == [LARGE - 2] * events


def sizes(fleet: Fleet, server: RealServer) -> list[int]:
    """The number of events of each batch in flight. None has more bytes than allowed."""
    found = []
    for batch_id in fleet.broker.ledger.in_flight():
        _, _, *events = server.admin.lrange(fleet.broker.keys.batch(batch_id), 0, -1)
        assert sum(map(len, events)) <= MAX_BYTES
        found.append(len(events))
    return sorted(found, reverse=True)


def jobs(server: RealServer) -> list[str]:
    return sorted(key.decode().removeprefix("rq:job:") for key in server.admin.scan_iter("rq:job:*"))
