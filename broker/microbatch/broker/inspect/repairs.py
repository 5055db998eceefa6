"""Repairs what the audit finds. Each repair returns in words what it did."""

from __future__ import annotations

from collections.abc import Callable

from microbatch.broker.broker import Broker
from microbatch.broker.state.wake import Wake


class Repairs:
    """The repairs of one batcher."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def adjust(self, counter: str, by: int) -> Callable[[], str]:
        def repair() -> str:
            self._broker.server.do("HINCRBY", self._broker.keys.stats, counter, by)
            return f"{counter} counted on by {by:+}"

        return repair

    def quarantine(self, batch_id: str | bytes, head: object) -> Callable[[], str]:
        """``head`` has the first values of the list as they were read, if it is a list."""
        record = head[1] if isinstance(head, list) and len(head) > 1 else b""

        def repair() -> str:
            place = self._broker.recovery.quarantine(batch_id, record)
            return f"quarantined as {place}" if place else "it is gone already, or has changed"

        return repair

    def adopt(self, batch_id: str) -> Callable[[], str]:
        def repair() -> str:
            self._broker.server.do(
                "ZADD", self._broker.keys.inflight, "NX", self._broker.clock.now_ms(), batch_id
            )
            self._broker.wake.tell(Wake.RECONCILE)
            return "put in flight"

        return repair

    def wake(self) -> str:
        self._broker.wake.tell(Wake.RECONCILE)
        return "the active scheduler was told"
