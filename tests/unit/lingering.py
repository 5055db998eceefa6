"""Batchers whose events linger, and the events that have reached the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.producer import MicroBatcher
from tests.unit.steps import FakeClient, values_of

EVENTS = "mb:{letters}:events"
LONG = 60_000


class MakeBatcher:
    """Make lingering batchers. Each is closed after the test."""

    def __init__(self, make_broker: Callable[..., Broker]) -> None:
        self._make_broker = make_broker
        self.made: list[MicroBatcher] = []

    def __call__(self, linger: int = LONG, **settings: Any) -> MicroBatcher:
        broker = self._make_broker(**settings)
        self.made.append(MicroBatcher(broker.config, linger=linger, broker=broker))
        return self.made[-1]


def waiting(client: FakeClient) -> list[Any]:
    return values_of(client.lrange(EVENTS, 0, -1))
