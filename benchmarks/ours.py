"""Microbatch as it is measured: the app ``sums`` on its own server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import events, sums
from benchmarks.measure import Figures
from benchmarks.processes import PATIENCE_SECONDS, PYTHON, Producer, environment, running, server
from benchmarks.tally import Tally, check
from microbatch.broker.broker import Broker
from microbatch.broker.wire.event import event_body
from microbatch.ops.local.stack import Stack
from microbatch.producer import BatchInfo, Config, start
from microbatch.scheduler.scheduler import Scheduler
from tests.servers import RealServer

WORKERS = 2
UNBOUNDED = 10_000_000
"""The `max_in_flight` of rows in which all batches are cut before any is run."""


class Ours:
    """One batcher and its server, at first without any process.

    ``settings`` are the batcher's, and all its processes get them.
    """

    def __init__(self, stack: ExitStack, **settings: int) -> None:
        self.server: RealServer = stack.enter_context(server())
        given = sums.config.model_dump(exclude_unset=True)
        self.config = Config(**{**given, "redis_url": self.server.url, **settings})
        self.broker = Broker(self.config)
        self.variables: dict[str, str | int] = {
            "MICROBATCH_REDIS_URL": self.server.url,
            "MICROBATCH_LOG_LEVEL": "ERROR",
            **{f"MICROBATCH_{name.upper()}": value for name, value in settings.items()},
        }

    @contextmanager
    def everything(self, workers: int = WORKERS) -> Iterator[None]:
        """Run a scheduler and workers, started as `microbatch up` does."""
        with environment(**self.variables), Stack(sums.APP, self.config, workers=workers):
            yield

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """Run one worker process."""
        with running(PYTHON, "-m", "microbatch.worker", sums.APP, **self.variables) as process:
            yield process

    def scheduler(self) -> Scheduler:
        """An active scheduler in this process, which the caller runs step by step."""
        found = Scheduler(self.config)
        while not found.active:
            found.run_once()
        return found

    def fill(self, count: int, after: int = 0) -> None:
        """Make ``count`` events wait, starting ``after`` others that were recorded before."""
        batcher = start(self.config)
        batcher.record_events(events.some(count, after))
        batcher.close()

    def end_to_end(self, count: int) -> Figures:
        """Record ``count`` events in another process, and handle the results in this one."""
        producer = self.producer(count)
        producer.go()
        tally = self.handle(count)
        begun, ended = producer.moments()
        return {"processed/s": tally.rate_since(begun), "recorded/s": count / (ended - begun)}

    def producer(self, count: int, *how: str) -> Producer:
        """A process that will record ``count`` events; see ``sums``."""
        return Producer(PYTHON, "-m", "benchmarks.sums", str(count), *how, **self.variables)

    def handle(
        self,
        count: int,
        look: Callable[[float, BatchInfo], None] | None = None,
        *,
        after: int = 0,
        stop: bool = True,
    ) -> Tally:
        """Handle the results of ``count`` events, and stop, which shows that everything is dealt with.

        ``look`` gets the time of each batch's run, and the batch. Without ``stop``, other events may wait.
        """
        tally = Tally(count, after)

        def handle(result: list[Any], info: BatchInfo) -> None:
            tally.add(result[0], result[1])
            if look is not None:
                look(result[2], info)
            if tally.full and stop:
                batcher.stop()

        batcher = start(self.config.model_copy(update={"result_handler": handle}))
        if stop:
            assert batcher.wait_for_results(timeout=PATIENCE_SECONDS), "not all was handled"
        else:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not tally.full and time.monotonic() < deadline:
                batcher.wait_for_results(timeout=0.02)
        batcher.close()
        return tally

    def check_cut(self, count: int) -> None:
        """Raises WrongError unless these events are in flight, in full batches, each with a job."""
        client: Any = self.server.admin
        keys, size = self.broker.keys, self.config.max_size
        ids = client.zrange(keys.inflight, 0, -1)
        check("batches in flight", len(ids), count // size)
        check("jobs", client.llen(f"rq:queue:{self.broker.keys.queue}"), len(ids))
        numbers = 0
        for batch_id in ids:
            _, _, *raws = client.lrange(keys.batch(batch_id.decode()), 0, -1)
            check("events of a batch", len(raws), size)
            numbers += sum(json.loads(event_body(raw))["number"] for raw in raws)
        check("the sum of their numbers", numbers, events.total(count))
