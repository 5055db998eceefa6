"""Logs that results wait and that no consumer handles them."""

from __future__ import annotations

import logging
import time

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.state.unhandled import Neglect

log = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0


class NeglectWatch:
    """Looks once a minute whether results are neglected, and logs it at most once an hour.

    A scheduler may not read results, so it does not know how old they are. If the server knows no consumer,
    results are neglected when this scheduler has seen results wait for an hour.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._neglected_ms = broker.timing.neglected_ms
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._since: float | None = None
        self._say_at = 0.0

    def look(self) -> None:
        """Look if it is time. A server's error is only logged, because the look is only for people."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        try:
            found = self._neglect(now)
        except ServerError as error:
            log.debug("%s: whether results are neglected can't be seen: %s", self._name, error)
            return
        if found is None:
            self._say_at = 0.0
        elif now >= self._say_at:
            self._say_at = now + self._neglected_ms / 1000
            log.warning('%s: %s; run a consumer, or set results to "discard"', self._name, found)

    def _neglect(self, now: float) -> Neglect | None:
        count, unseen_ms = self._broker.unhandled.count(), self._broker.unhandled.unseen_ms()
        if not count or (unseen_ms is not None and unseen_ms < self._neglected_ms):
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        if unseen_ms is None and now - self._since < self._neglected_ms / 1000:
            return None
        return Neglect(count, None, unseen_ms)
