"""Objects of a failed run are freed when the failure is recorded, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.producer import Config, MicroBatcher, PartialFailure
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.rq.worker import BatchWorker
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualTicker
from tests.servers import RealServer

pytestmark = pytest.mark.leaves("inflight", "batch", "results", "dead", "wake")

HELD: list[weakref.ref[object]] = []


@dataclass
class Letter:
    text: str


class Data:
    """Data that a processor loads, of any size."""


def load(batch: list[Letter]) -> Data:
    """Load data, and keep weak references to it and to an event: the test sees when they are freed."""
    data = Data()
    HELD.extend([weakref.ref(data), weakref.ref(batch[0])])
    return data


def whole(batch: list[Letter]) -> None:
    data = load(batch)
    raise ValueError(f"no {type(data)}")


def whole_without_a_job(batch: list[Letter]) -> None:
    """RQ can't be told of the failure, because somebody has deleted the job."""
    whole(batch)


def from_another(batch: list[Letter]) -> None:
    data = load(batch)
    try:
        whole(batch)
    except ValueError as error:
        kept = error
        raise RuntimeError(f"no {type(data)}") from kept


def in_a_group(batch: list[Letter]) -> None:
    errors = []
    for _ in range(2):
        try:
            whole(batch)
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("no", errors)


def in_part(batch: list[Letter]) -> None:
    data = load(batch)
    try:
        whole(batch)
    except ValueError as error:
        raise PartialFailure({0: error}, result=str(data)) from None


async def waiting(batch: list[Letter]) -> None:
    data = load(batch)
    await asyncio.sleep(0)
    raise ValueError(f"no {type(data)}")


def leaving(batch: list[Letter]) -> None:
    data = load(batch)
    raise SystemExit(f"no {type(data)}")


def too_long(batch: list[Letter]) -> None:
    data = load(batch)
    time.sleep(30)
    del data


def too_long_and_catching(batch: list[Letter]) -> str:
    data = load(batch)
    try:
        time.sleep(30)
    except Exception as error:  # noqa: BLE001 - what a processor may do
        kept = error
        return f"{type(data)} {kept}"
    return ""


async def waiting_too_long(batch: list[Letter]) -> None:
    data = load(batch)
    await asyncio.sleep(30)
    del data


def generating(batch: list[Letter]) -> None:
    def events() -> Iterator[Letter]:
        data = load(batch)
        for event in batch:
            yield event
            raise ValueError(f"no {type(data)}")

    list(events())


def a_result_that_is_no_json(batch: list[Letter]) -> Data:
    return load(batch)


@pytest.fixture
def without_the_collector() -> Iterator[None]:
    HELD.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def run_one(server: RealServer, processor: Callable[[list[Letter]], object], **settings: Any) -> Broker:
    """Record an event, cut it, and run its batch in this process, up to the report of its failure to RQ."""
    config = Config(
        name="letters", redis_url=server.url, batch_processor=processor, batch_timeout=1, retry_delay=600,
        isolate_failures=False, max_size=1, **settings,
    )  # fmt: skip
    broker = Broker(config)
    worker = BatchWorker(BatchRunner(config, broker=broker), broker.server)
    MicroBatcher(config, broker=broker).record_event(Letter("a"))
    Scheduler(config, broker=broker, ticker=ManualTicker()).run_once()
    if processor is whole_without_a_job:
        server.admin.delete(*server.admin.scan_iter("rq:job:*"))
    job = worker._take_turns()
    if job is not None:
        worker.execute_job(job, worker.queues[0])
    return broker


@pytest.mark.parametrize("max_retries", [1, 0], ids=["to_be_retried", "dead"])
@pytest.mark.parametrize(
    "processor",
    [
        whole, whole_without_a_job, from_another, in_a_group, in_part, waiting, leaving, generating,
        a_result_that_is_no_json, too_long, too_long_and_catching, waiting_too_long,
    ],
)  # fmt: skip
def test_a_failed_run_leaves_nothing_in_memory(
    valkey_server: RealServer,
    processor: Callable[[list[Letter]], object],
    max_retries: int,
    without_the_collector: None,
) -> None:
    broker = run_one(valkey_server, processor, max_retries=max_retries)
    assert HELD
    assert [ref() for ref in HELD] == [None] * len(HELD)
    assert broker.dead.count() == (max_retries == 0)
    broker.close()
