"""The operator: looks in on a run now and then, and puts a dead batch's events back among those that wait."""

from __future__ import annotations

import json
import logging
from itertools import islice

from microbatch.broker import wire
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from tests.chaos.history import INVOKE, History

log = logging.getLogger(__name__)

_EVERY_SECONDS = 5.0


class Operator:
    """Replays the batch that has been dead for longest, every few seconds."""

    def __init__(self, broker: Broker, history: History) -> None:
        self._broker = broker
        self._history = history
        self._next = _EVERY_SECONDS

    def step(self, now: float) -> None:
        """Look in, if it is time. ``now``: seconds since the start."""
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        try:
            for batch in islice(self._broker.dead, 1):
                ids = [json.loads(wire.event_body(raw))["id"] for raw in self._broker.dead.events(batch.id)]
                # Noted before it is done, as it may be done without our hearing of it.
                self._history.note("replay", INVOKE, batch=batch.id, events=ids)
                self._broker.dead.replay(batch.id)
        except ServerError as error:
            log.info("another time: %s", error)
