"""The model against which events are checked: it knows where each event is, after any operation.

It knows which events wait, which batches are in flight or dead, and what is done or purged. It knows nothing
of keys, scripts or counters. After each step it is compared with the server.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.state.results import GROUP, Entry
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.in_flight import ClaimedBatch
from microbatch.broker.wire.run_record import RunRecord
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.failure_recorder import FailureRecorder
from tests.doubles import ManualClock, ManualTicker, ManualWakeListener
from tests.unit.steps import FakeClient, account_of, check_account, outcomes, values_of

MAX_SIZE = 3
MAX_WAITING = 8
RUN_MS = 8_000
WINDOW_MS = 60_000  # the server counts it by its own clock: an example ends within it


@dataclass
class InFlight:
    """A batch in flight, as the model sees it."""

    events: tuple[int, ...]
    run: RunRecord = field(default_factory=RunRecord)
    """Without its owner."""
    owner: str = ""
    alive_until: int = 0


@dataclass
class Model:
    """The place of every event."""

    waiting: list[int] = field(default_factory=list)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    dead: dict[str, tuple[int, ...]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)
    purged: list[int] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    """The outcomes that wait for a handler: the batch, and whether it is a result or a failure."""

    def all(self) -> Iterator[int]:
        """Every event, once for each place where it is."""
        yield from (*self.waiting, *self.done, *self.purged)
        for batch in self.in_flight.values():
            yield from batch.events
        for events in self.dead.values():
            yield from events

    def finish(self, batch_id: str) -> None:
        self.done += self.in_flight.pop(batch_id).events
        self.outcomes.append((batch_id, "result"))

    def die(self, batch_id: str) -> None:
        self.dead[batch_id] = self.in_flight.pop(batch_id).events
        self.outcomes.append((batch_id, "failure"))


class SameSecrets:
    """Like `secrets`, but with the same values in each run."""

    dice = random.Random(0)

    @classmethod
    def token_hex(cls, count: int) -> str:
        return cls.dice.randbytes(count).hex()


class Modelled(RuleBasedStateMachine):
    """A server with all processes that use it, the model, and the invariants that always hold for both."""

    client: ClassVar[FakeClient]
    """A client of a real server, which this empties. A fake server takes ten times as long."""

    @initialize(max_retries=st.sampled_from([0, 0, 1]), retry_for=st.sampled_from([20, 3_600]))
    def begin(self, max_retries: int, retry_for: int) -> None:
        SameSecrets.dice.seed(0)
        self.max_retries, self.retry_for = max_retries, retry_for
        self.client.flushall()
        self.clock = ManualClock()
        self.broker = self.make_broker()
        self.bounded = self.make_broker(max_waiting=MAX_WAITING, dedupe_window=WINDOW_MS / 1000)
        self.failures = FailureRecorder(self.broker)
        self.listener, self.ticker = ManualWakeListener(), ManualTicker()
        self.schedulers = [self.make_scheduler(), self.make_scheduler()]
        self.leader: Scheduler | None = None
        self.consumers = [self.broker.results(), self.broker.results()]
        self.consumers[0].prepare()

        self.model = Model()
        self.recorded = 0
        self.seen: dict[str, int] = {}
        self.batch_ids: list[str] = []  # all batches that ever existed
        self.runs: list[ClaimedBatch] = []  # all runs that ever began; some are over, or lost to others
        self.entries: list[Entry] = []  # all entries that were ever delivered
        self.delivered: set[str] = set()

    def make_broker(self, **options: Any) -> Broker:
        config = Config(
            name="letters",
            lease_ttl=600,
            max_size=MAX_SIZE,
            max_retries=self.max_retries,
            max_worker_deaths=self.max_retries,
            retry_for=self.retry_for,
            **options,
        )
        return Broker(config, server=Server(self.client), clock=self.clock)

    def make_scheduler(self) -> Scheduler:
        scheduler = Scheduler(
            self.broker.config,
            broker=self.broker,
            clock=self.clock,
            ticker=self.ticker,
            listener=self.listener,
        )
        never_reconciles(scheduler)
        return scheduler

    def batches_appear(self, batches: Iterable[InFlight]) -> list[str]:
        """Learn the ids of new batches from the server: exactly these batches must be new there."""
        expected = {batch.events: batch for batch in batches}
        new = self.new_on_the_server()
        assert new.keys() == expected.keys()
        ids = [new[events] for events in expected]
        self.batch_ids += ids
        self.model.in_flight.update(zip(ids, expected.values(), strict=True))
        return ids

    def new_on_the_server(self) -> dict[tuple[int, ...], str]:
        """The ids of batches that the model does not know yet, by their events."""
        return {
            tuple(values_of(events)): key.removeprefix(self.broker.keys.batch(""))
            for key, events in self.batches_on_the_server().items()
            if key.removeprefix(self.broker.keys.batch("")) not in self.batch_ids
        }

    def batches_on_the_server(self) -> dict[str, list[bytes]]:
        keys = [key.decode() for key in self.client.scan_iter(self.broker.keys.batch("*"))]
        return {key: self.client.lrange(key, 2, -1) for key in keys}

    @invariant()
    def each_event_is_in_one_place(self) -> None:
        assert sorted(self.model.all()) == list(range(self.recorded))
        waiting = self.client.lrange(self.broker.keys.events, 0, -1)
        assert values_of(waiting) == self.model.waiting
        assert set(self.broker.ledger.in_flight()) == self.model.in_flight.keys()
        assert {
            raw.decode() for raw in self.client.zrange(self.broker.keys.dead, 0, -1)
        } == self.model.dead.keys()
        on_the_server = {key: tuple(values_of(raws)) for key, raws in self.batches_on_the_server().items()}
        batches = {
            batch_id: batch.events for batch_id, batch in self.model.in_flight.items()
        } | self.model.dead
        assert on_the_server == {
            self.broker.keys.batch(batch_id): events for batch_id, events in batches.items()
        }

    @invariant()
    def the_account_holds(self) -> None:
        check_account(self.broker)
        counters = self.broker.stats.counters()
        assert account_of(self.broker).recorded == self.recorded
        assert counters.done_events == len(self.model.done)
        assert counters.purged_events == len(self.model.purged)

    @invariant()
    def each_outcome_is_on_the_stream_once(self) -> None:
        there = outcomes(self.broker)
        found = [(outcome.batch_id, "failure" if outcome.failure else "result") for outcome in there]
        assert Counter(found) == Counter(self.model.outcomes)
        unhandled = {raw_id.decode() for raw_id, _ in self.client.xrange(self.broker.keys.results)}
        pending = self.client.xpending(self.broker.keys.results, GROUP)["pending"]
        assert pending == len(unhandled & self.delivered)


def never_reconciles(scheduler: Scheduler) -> None:
    """To reconcile is a rule of its own."""
    scheduler._reconciling._due_at = inf
