"""Says in the log that results wait and that nobody comes for them."""

from __future__ import annotations

import logging
import time

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.unhandled import NEGLECTED_MS

log = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
_SAY_AGAIN_SECONDS = NEGLECTED_MS / 1000


class NeglectWatch:
    """Looks once a minute, and says once an hour that results are neglected."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._say_at = 0.0

    def look(self) -> None:
        """Look, if it is time to. It is only for people: an error ends nothing."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        name = self._broker.config.name
        try:
            found = self._broker.unhandled.neglect(self._broker.clock.now_ms())
        except ServerError as error:
            log.debug("%s: whether results are neglected can't be seen: %s", name, error)
            return
        if found is None:
            self._say_at = 0.0
        elif now >= self._say_at:
            self._say_at = now + _SAY_AGAIN_SECONDS
            log.warning('%s: %s; run a consumer, or set results to "discard"', name, found)
