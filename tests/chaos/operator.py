"""The operator: replays dead batches every few seconds, and counts the batches that have a job."""

from __future__ import annotations

import json
import logging
from itertools import islice

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.state.due import BAND_MS
from microbatch.broker.wire.event import event_body
from tests.chaos.history import INVOKE, History

log = logging.getLogger(__name__)

_EVERY_SECONDS = 5.0


class Operator:
    """Replays the batch that has been dead longest, every few seconds, and counts whenever it is told to."""

    def __init__(self, broker: Broker, history: History) -> None:
        self._broker = broker
        self._history = history
        self._next = _EVERY_SECONDS
        self._most = 0

    def step(self, now: float) -> None:
        """Replay a batch, if it is time. ``now``: seconds since the start."""
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        try:
            for batch in islice(self._broker.dead, 1):
                ids = [json.loads(event_body(raw))["id"] for raw in self._broker.dead.events(batch.id)]
                # Noted before the call, because the replay may happen even if its reply is lost.
                name = self._broker.config.name
                self._history.note("replay", INVOKE, batcher=name, batch=batch.id, events=ids)
                self._broker.dead.replay(batch.id)
        except ServerError as error:
            log.info("another time: %s", error)

    def count(self) -> None:
        """Note how many batches are queued or running, if there are more than ever before."""
        try:
            now = self._broker.server.do("ZCOUNT", self._broker.keys.inflight, "-inf", f"({BAND_MS}")
        except ServerError as error:
            log.info("another time: %s", error)
            return
        if now > self._most:
            self._most = now
            self._history.note("in_flight", batcher=self._broker.config.name, batches=now)
