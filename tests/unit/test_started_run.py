"""The current run: it begins and ends on one thread, and is shown and stopped on others."""

from __future__ import annotations

from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.wire.in_flight import ClaimedBatch
from microbatch.worker.rq.started import StartedRun
from tests.unit.steps import claim, record_and_cut


class Shown:
    """RQ's record of a run, with only the parts that matter here."""

    def __init__(self) -> None:
        self.batches: list[ClaimedBatch] = []

    def __call__(self, batch: ClaimedBatch) -> Any:
        self.batches.append(batch)
        return f"execution {len(self.batches)}"


def two_batches(broker: Broker) -> tuple[ClaimedBatch, ClaimedBatch]:
    return claim(broker, record_and_cut(broker, 1)), claim(broker, record_and_cut(broker, 2))


def test_a_run_is_shown_while_it_goes_on(broker: Broker) -> None:
    first, second = two_batches(broker)
    shown = Shown()
    run = StartedRun(shown)
    run.begin(first)
    run.show(first)
    assert run.over() == "execution 1"
    run.begin(second)
    assert run.over() is None
    assert shown.batches == [first]


def test_a_run_that_is_over_is_not_shown_any_more(broker: Broker) -> None:
    first, second = two_batches(broker)
    shown = Shown()
    run = StartedRun(shown)
    run.begin(first)
    run.over()
    run.show(first)
    run.begin(second)
    run.show(first)
    assert shown.batches == []


def test_only_the_run_of_the_job_that_was_named_is_stopped(broker: Broker) -> None:
    first, second = two_batches(broker)
    stopped: list[str] = []
    run = StartedRun(Shown())
    run.begin(second)
    run.stop(first.id, lambda: stopped.append("first"))  # this run has just ended
    run.stop(second.id, lambda: stopped.append("second"))
    assert stopped == ["second"]
