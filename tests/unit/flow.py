"""A flow: a scheduler and a worker on a fake server, run step by step on a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.run_record import RunRecord
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualClock, ManualTicker, ManualWakeListener
from tests.unit.steps import check_account, client_of, record, values_of

QUEUE = "rq:queue:mb:letters"


class Flow:
    """One batcher whose events are recorded, cut, run and tried again."""

    def __init__(
        self, make_broker: Callable[..., Broker], clock: ManualClock, processor: object, **settings: Any
    ) -> None:
        self.runs: list[list[Any]] = []
        """The events of every run so far."""
        self.clock = clock
        self.broker = make_broker(**{"batch_processor": self._noting(processor), "max_size": 10, **settings})
        self.runner = BatchRunner(self.broker.config, broker=self.broker)
        self.listener = ManualWakeListener()
        self.scheduler = self.make_scheduler()

    def make_scheduler(self) -> Scheduler:
        return Scheduler(
            self.broker.config,
            broker=self.broker,
            clock=self.clock,
            ticker=ManualTicker(),
            listener=self.listener,
        )

    def _noting(self, processor: Any) -> Callable[[list[Any]], Any]:
        def process(batch: list[Any]) -> Any:
            self.runs.append(batch)
            return processor(batch)

        return process

    def record(self, *events: object) -> None:
        record(self.broker, *events)

    def schedule(self) -> None:
        """Let the scheduler cut waiting events and look after the batches in flight."""
        self.listener.wake(Wake.FLUSH)
        self.scheduler._reconciling.bring_forward()
        self.scheduler.run_once()

    def work(self) -> int:
        """Let a worker run all waiting jobs. Returns how many there were."""
        jobs = 0
        while (job := client_of(self.broker).lpop(QUEUE)) is not None:
            jobs += 1
            self.runner.run(job.decode())
        return jobs

    def step(self, by_ms: int = 500) -> int:
        """Advance the clock, and let the scheduler and a worker do what is due.

        Returns the number of jobs run.
        """
        self.clock.advance(by_ms)
        self.schedule()
        return self.work()

    def steps(self, seconds: float, by_ms: int = 500) -> None:
        for _ in range(int(seconds * 1000 / by_ms)):
            self.step(by_ms)
        check_account(self.broker)

    def finish(self, seconds: float = 600) -> None:
        """Take steps until no event waits and no batch is in flight."""
        end_ms = self.clock.ms + seconds * 1000
        while self.broker.events.waiting() or self.broker.ledger.in_flight():
            assert self.clock.ms < end_ms, f"it does not end: {self.records()}"
            self.step()
        check_account(self.broker)

    def records(self) -> list[RunRecord]:
        """The run records of the batches in flight."""
        keys = [self.broker.keys.batch(batch_id) for batch_id in self.broker.ledger.in_flight()]
        return [RunRecord.decode(client_of(self.broker).lindex(key, 1)) for key in keys]

    def in_flight(self) -> list[list[Any]]:
        """The events of each batch in flight, in order."""
        keys = [self.broker.keys.batch(batch_id) for batch_id in self.broker.ledger.in_flight()]
        return sorted(values_of(client_of(self.broker).lrange(key, 2, -1)) for key in keys)

    def dead(self) -> list[tuple[str, list[Any]]]:
        """The error and the events of each dead batch."""
        found: Sequence[Any] = list(self.broker.dead)
        return sorted((batch.failure.error, values_of(self.broker.dead.events(batch.id))) for batch in found)

    def done(self) -> int:
        return self.broker.stats.counters().done_events
