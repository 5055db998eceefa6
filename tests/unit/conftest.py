"""Fixtures of the unit tests: a fake server in this process, and a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import fakeredis
import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.transport.server import Server
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualClock
from tests.unit.lingering import MakeBatcher
from tests.unit.steps import FakeClient


@pytest.fixture(autouse=True)
def readable_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fake server's connections have no socket to wait on, so reading from one waits for the reply."""
    with Path("/dev/zero").open("rb") as always:
        monkeypatch.setattr(
            "microbatch.broker.transport.listener._descriptor", lambda _connection: always.fileno()
        )
        yield


@pytest.fixture
def client() -> FakeClient:
    """A client of an empty server that no other test uses."""
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(), protocol=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class MakeBroker(Protocol):
    """Make a broker. The options are settings."""

    def __call__(self, **settings: Any) -> Broker: ...


@pytest.fixture
def make_broker(client: FakeClient, clock: ManualClock) -> MakeBroker:
    """Brokers that share the fake server."""

    def make(**settings: Any) -> Broker:
        # The lease is longer than any pause of the test run.
        config = Config(**{"name": "letters", "lease_ttl": 600, **settings})
        return Broker(config, server=Server(client), clock=clock)

    return make


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    """The broker of the batcher "letters"."""
    return make_broker()


@pytest.fixture
def make_batcher(make_broker: MakeBroker) -> Iterator[MakeBatcher]:
    """Batchers whose events linger. They are closed after the test."""
    make = MakeBatcher(make_broker)
    yield make
    for batcher in make.made:
        batcher.close()


MakeRunner = Callable[..., BatchRunner]


@pytest.fixture
def make_runner(make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> MakeRunner:
    """Runners of a processor. Random values are fixed at the middle of their range."""
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)

    def make(processor: object, **settings: Any) -> BatchRunner:
        broker = make_broker(**{"batch_processor": processor, "isolate_failures": False, **settings})
        return BatchRunner(broker.config, broker=broker)

    return make
