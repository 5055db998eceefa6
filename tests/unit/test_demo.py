"""The demo's own check of what came out."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from microbatch.broker.inspect.snapshot import Snapshot
from microbatch.broker.state.counters import Counters
from microbatch.broker.wire.batch import BatchInfo
from microbatch.broker.wire.header import Trigger
from microbatch.ops.demo import EXPECTED, differences
from microbatch.ops.letters import Total, total
from microbatch.ops.views.demo import DemoView


def count(*, done: int = 8, dead: int = 0, in_flight: int = 0, waiting: int = 0) -> Snapshot:
    return Snapshot(
        at_ms=0,
        waiting_events=waiting,
        oldest_waiting_ms=None,
        in_flight_batches=in_flight,
        oldest_in_flight_ms=None,
        unhandled=0,
        counters=Counters(done_events=done, dead_events=dead),
        active=None,
        standbys=(),
    )


def test_the_processor_carries_its_error_in_the_result() -> None:
    assert total(["a", "b"]) == Total(3)
    assert total(["c", "d"]) == Total(error="could not map letter 'c'")


@pytest.mark.parametrize(("encoding", "arrow"), [("utf-8", "└─▶"), ("ascii", "`->"), ("iso-8859-1", "`->")])
def test_what_is_drawn_can_be_shown(encoding: str, arrow: str) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    now = datetime.now(UTC)
    batch = BatchInfo("1", "letters", Trigger.SIZE, 2, 1, cut_at=now, recorded_at=now)
    DemoView(Console(file=screen, color_system=None)).handled(1215, Total(3), batch, latency_ms=115)
    screen.seek(0)
    assert screen.read() == f"  1.215 s  {'':12}{arrow} batch of 2  trigger size   latency  115 ms  total 3\n"


def test_what_should_come_out() -> None:
    assert differences(EXPECTED, 8, count(), finished=True) == []


@pytest.mark.parametrize(
    ("totals", "recorded", "found", "finished", "said"),
    [
        (EXPECTED, 8, count(), False, "the results were not all there after 20 s"),
        (
            EXPECTED[1:],
            8,
            count(),
            True,
            "the totals are 4, 3, could not map letter 'c', 1, not 3, 4, 3, could",
        ),
        (EXPECTED, 7, count(), True, "7 events were recorded, not 8"),
        (EXPECTED, 8, count(done=7, in_flight=1), True, "the server tells of 7 events done, 0 dead, 1 batch"),
        (EXPECTED, 8, count(done=6, dead=2), True, "the server tells of 6 events done, 2 dead, 0 batch"),
        (EXPECTED, 8, count(done=7, waiting=1), True, "0 batches in flight, 1 events waiting"),
    ],
)
def test_what_should_not_come_out(
    totals: tuple[Total, ...], recorded: int, found: Snapshot, *, finished: bool, said: str
) -> None:
    (difference,) = differences(totals, recorded, found, finished=finished)
    assert said in difference
