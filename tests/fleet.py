"""A fleet: the schedulers, workers and producers of one batcher, which end with the test that starts them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt, Unavailable
from microbatch.broker.wire.codec import encode
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.outcome import Outcome
from microbatch.producer import Config, MicroBatcher, start
from microbatch.scheduler.scheduler import Scheduler
from microbatch.scheduler.ticker import Ticker
from tests.processes import Process
from tests.servers import RealServer
from tests.waiting import wait_until

SUM = "def process(batch): return sum(batch)"
ECHO = "def process(batch): return batch"
HELD = """
def process(batch, info: BatchInfo):
    note("runs", os.getpid())
    if info.attempt == 1:
        wait_for("go")
    return batch
"""

_APP = """\
import os
import time
from pathlib import Path

from microbatch.broker.wire.codec import encode
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.outcome import Outcome
from microbatch.producer import BatchInfo, Config


def note(name, text):
    with open(name, "a") as file:
        file.write(f"{text}\\n")


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.01)


"""
_CONFIG = "\n\nconfig = Config(batch_processor=process)\n"

# Shorter times, because a test can't wait for the real ones: how long a worker may be silent, and how long a
# job may be on its way, before a batch runs elsewhere. Put this at the beginning of a processor's source.
HASTY = """\
from tests.times import hurry_for_good

hurry_for_good(run_ttl_ms=1_500, beat_seconds=0.3, look_again_ms=500, on_the_way_ms=500)


"""

_SCHEDULER = """\
import logging, sys
from microbatch.broker.app.loading import load_config
from microbatch.scheduler.service import SchedulerService
logging.basicConfig(level="INFO", format="%(message)s")
sys.exit(0 if SchedulerService([load_config(sys.argv[1])]).run() else 1)
"""

_POOL = """\
import logging, sys
from microbatch.worker.pool import WorkerPool
logging.basicConfig(level="INFO", format="%(message)s")
WorkerPool(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])).run()
"""


class Fleet:
    """Everything that works on one batcher, on one server.

    ``settings`` are the Config's, and all processes share them. The processor is source code that defines
    ``process``. It runs in ``folder``, where it may write lines with `note` for the test to read, and wait
    for files with `wait_for`.
    """

    def __init__(self, server: RealServer, folder: Path, processor: str = SUM, **settings: Any) -> None:
        self.folder = folder
        self.settings = {"name": "letters", "frequency": 50, "redis_url": server.url, **settings}
        self._app = folder / "app.py"
        self._app.write_text(_APP + processor + _CONFIG)
        self.stack = ExitStack()
        self.broker = Broker(self.config())
        self.stack.callback(self.broker.close)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def config(self, **settings: Any) -> Config:
        return Config(**{**self.settings, **settings})

    def batcher(self, **settings: Any) -> MicroBatcher:
        """A producer and consumer in this process."""
        batcher = start(self.config(**settings))
        self.stack.callback(batcher.close)
        return batcher

    @contextmanager
    def scheduling(self, ticker: Ticker | None = None, **settings: Any) -> Iterator[Scheduler]:
        """A scheduler on a thread of this process, while the block runs."""
        scheduler = Scheduler(self.config(**settings), ticker=ticker)
        thread = threading.Thread(target=scheduler.run)
        thread.start()
        try:
            yield scheduler
        finally:
            scheduler.stop()
            thread.join()

    def scheduler(self, ticker: Ticker | None = None, **settings: Any) -> Scheduler:
        """A scheduler on a thread of this process, for the rest of the test."""
        return self.stack.enter_context(self.scheduling(ticker, **settings))

    def scheduler_process(self, **settings: Any) -> Process:
        return self.run(_SCHEDULER, self._app, **settings)

    def worker(self, **settings: Any) -> Process:
        """One worker process, as a pool starts them."""
        return self.module("microbatch.worker", self._app, **settings)

    def pool(self, concurrency: int, *, grace: float = 25, **settings: Any) -> Process:
        return self.run(_POOL, self._app, concurrency, grace, **settings)

    def module(self, name: str, *arguments: object, **settings: Any) -> Process:
        """Run a module as a program, with the batcher's settings in its environment."""
        return self._process(["-m", name, *map(str, arguments)], settings)

    def run(self, source: str, *arguments: object, **settings: Any) -> Process:
        """Run Python source as a program, with the batcher's settings in its environment."""
        return self._process(["-c", source, *map(str, arguments)], settings)

    def _process(self, words: list[str], settings: dict[str, Any]) -> Process:
        merged = {**self.settings, **settings}
        env = {f"MICROBATCH_{name.upper()}": str(value) for name, value in merged.items()}
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        return self.stack.enter_context(Process([sys.executable, *words], cwd=self.folder, env=env))

    def active_pid(self) -> int | None:
        """The process id of the active scheduler, or None."""
        token: bytes | None = self.broker.server.do("GET", self.broker.keys.lease)
        return int(token.split(b":")[1]) if token else None

    def noted(self, name: str) -> list[str]:
        """The lines that processors have written to a file with `note`."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_note(self, name: str, count: int = 1, timeout: float = 60) -> list[str]:
        """Wait until the file has at least ``count`` lines, and return them."""

        def enough() -> list[str] | None:
            lines = self.noted(name)
            return lines if len(lines) >= count else None

        lines = wait_until(enough, timeout, lambda: f"{count} lines in {name!r}: {self.noted(name)}")
        assert lines is not None
        return lines

    def let(self, name: str) -> None:
        """Create the file that a processor waits for."""
        (self.folder / name).touch()

    def wait_for_cut(self, events: int) -> None:
        """Wait until at least this many events were cut in total."""
        wait_until(lambda: self.broker.stats.counters().cut_events >= events, message=self.state)

    def add_results(self, *values: object) -> list[str]:
        """Add results of batches of one event each, as workers do. Returns the ids of the batches."""
        ids = [new_id() for _ in values]
        for batch_id, value in zip(ids, values, strict=True):
            outcome = Outcome(batch_id, Header(Trigger.SIZE, 1, 1_000), 1, 1_000, result=encode(value))
            self.broker.server.do("XADD", self.broker.keys.results, "*", *outcome.encode())
        return ids

    def finish(self, batcher: MicroBatcher, timeout: float = 60) -> None:
        """Stop the batcher, and wait until every result is handled."""
        batcher.stop()
        assert batcher.wait_for_results(timeout), f"unfinished: {self.state()}"

    def state(self) -> str:
        """What the server holds, for error messages."""
        waiting, in_flight = self.broker.events.waiting(), len(self.broker.ledger.in_flight())
        return f"{waiting} waiting, {in_flight} in flight, {self.broker.stats.counters()}"


class Recorder(threading.Thread):
    """Records 0, 1, 2, … until `finish`. It never repeats an event that may have been recorded."""

    def __init__(self, mb: MicroBatcher) -> None:
        super().__init__()
        self._mb = mb
        self._enough = threading.Event()
        self.count = 0
        self.doubtful: set[int] = set()

    def run(self) -> None:
        while not self._enough.wait(0.001):
            try:
                self._mb.record_event(self.count)
            except Unavailable:
                continue
            except InDoubt:
                self.doubtful.add(self.count)
            self.count += 1

    def finish(self) -> None:
        self._enough.set()
        self.join()
