"""The trial: a steady flow of events, and a processor whose database stops for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from microbatch.broker.broker import Broker
from microbatch.producer import MicroBatcher
from tests.outage import app
from tests.outage.postgres import Postgres
from tests.processes import Process, script
from tests.servers import RealServer
from tests.waiting import wait_until

RATE = 480
"""Events per second."""
WORKERS = 4
_WARM_SECONDS = 5.0
_AFTER_SECONDS = 5.0
_MOST_SECONDS = 120.0  # until everything is done, after the database is back


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a trial."""

    recorded: int
    stored: int
    poison: int
    """How many bad events were recorded."""
    dead_events: int
    dead_batches: int
    done_after: float
    """Seconds from the database's return until no event waited and no batch was in flight."""
    runs: int
    log_lines: dict[str, int]
    """Warnings and errors of each process."""

    @property
    def failures(self) -> list[str]:
        """The requirements that the trial did not meet."""
        rules = {
            f"{self.recorded - self.stored} events are lost": self.recorded == self.stored,
            f"{self.dead_events} events are dead in {self.dead_batches} batches, not {self.poison}": (
                self.dead_events == self.dead_batches == self.poison
            ),
            f"all was done {self.done_after:.0f} s after the database's return": self.done_after < 60,
            f"log lines: {self.log_lines}": max(self.log_lines.values()) < 50,
        }
        return [text for text, holds in rules.items() if not holds]


class Producer(threading.Thread):
    """Records 0, 1, 2, … at a steady rate."""

    def __init__(self, batcher: MicroBatcher) -> None:
        super().__init__()
        self._batcher = batcher
        self._enough = threading.Event()
        self.count = 0

    def run(self) -> None:
        began = time.monotonic()
        while not self._enough.wait(0.01):
            due = int((time.monotonic() - began) * RATE)
            if due > self.count:
                self._batcher.record_events(range(self.count, due))
                self.count = due

    def finish(self) -> None:
        self._enough.set()
        self.join()


class Trial:
    """One trial in its own folder. For a ``with`` block, after which nothing is left running."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self._say = say

    def __enter__(self) -> Trial:
        enter = self._stack.enter_context
        self._postgres = enter(Postgres(self._folder / "postgres"))
        server = enter(RealServer("valkey", self._folder, appendonly=True))
        self._execute("CREATE TABLE numbers (number integer PRIMARY KEY CHECK (number >= 0))")
        config = app.config.model_copy(update={"redis_url": server.socket_url})
        self._batcher = MicroBatcher(config)
        self._stack.callback(self._batcher.close)
        self._broker = Broker(config)
        self._stack.callback(self._broker.close)
        env = {"MICROBATCH_REDIS_URL": server.socket_url, app.DSN: self._postgres.dsn}
        commands = {"scheduler": ["scheduler"], "workers": ["worker", "--concurrency", str(WORKERS)]}
        self._processes = {
            name: enter(Process([script("microbatch"), words[0], app.__file__, *words[1:]], env=env))
            for name, words in commands.items()
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, seconds: float, *, poison: int) -> Result:
        """Stop the database for ``seconds``, and record ``poison`` bad events during that time."""
        producer = Producer(self._batcher)
        producer.start()
        try:
            wait_until(lambda: self._broker.stats.counters().done_events > 0, 30, self._state)
            time.sleep(_WARM_SECONDS)
            self._away(seconds, poison)
            back = time.monotonic()
            time.sleep(_AFTER_SECONDS)
        finally:
            producer.finish()
        wait_until(self._is_done, _MOST_SECONDS, self._state)
        done_after = time.monotonic() - back
        counters = self._broker.stats.counters()
        return Result(
            producer.count, self._count(), poison, counters.dead_events_now, counters.dead_batches_now,
            done_after, counters.done_batches, self._log_lines(),
        )  # fmt: skip

    def _away(self, seconds: float, poison: int) -> None:
        self._postgres.stop()
        self._say(f"the database is stopped: {self._state()}")
        until = time.monotonic() + seconds
        for _ in range(poison):
            self._batcher.record_event(app.POISON)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 10))
            self._say(f"  {self._state()}")
        self._postgres.start()
        self._say(f"the database is back: {self._state()}")

    def _is_done(self) -> bool:
        return not self._broker.events.waiting() and not self._broker.ledger.in_flight()

    def _state(self) -> str:
        counters = self._broker.stats.counters()
        return (
            f"{self._broker.events.waiting():,} wait, {len(self._broker.ledger.in_flight()):,} batches in "
            f"flight, {counters.done_events:,} events done, {counters.dead_events_now:,} dead; "
            f"held back: {self._broker.held_back() or 'no'}"
        )

    def _execute(self, statement: str) -> list[tuple[int]]:
        with psycopg.connect(self._postgres.dsn) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _count(self) -> int:
        return self._execute("SELECT count(*) FROM numbers")[0][0]

    def _log_lines(self) -> dict[str, int]:
        """The warnings and errors of each process; for the workers, the average per worker, rounded up."""
        counts = Counter[str]()
        for name, process in self._processes.items():
            lines = [line for line in process.lines if " INFO " not in line]
            (self._folder / f"{name}.log").write_text("\n".join(process.lines))
            share = WORKERS if name == "workers" else 1
            counts[name] = -(-len(lines) // share)
        return dict(counts)
