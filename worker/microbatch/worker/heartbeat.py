"""The heartbeat of a worker process: extends its claims while it is alive.

It reads the claims from the worker's slot. So the worker's pool and, without a pool, a thread of the worker
itself send the same heartbeat.
"""

from __future__ import annotations

import logging
import threading
import time
from math import inf

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.state.claims import Claims, FoundClaim, RqPlace
from microbatch.broker.transport.clock import Clock
from microbatch.broker.wire.text import printable
from microbatch.worker.slot import NotedClaim, Slot

log = logging.getLogger(__name__)


class RunHeartbeat:
    """Sends heartbeats for the claims in one slot.

    Args:
        slot: where the worker notes its claims.
        claims: the batcher's claims on the server.
        clock: the server's clock.
        name: the batcher's name, for the log.
        ttl_ms: how long the worker may be silent.
        beat_seconds: how old a claim is at its first heartbeat. Further ones come after half that time.
    """

    def __init__(
        self, slot: Slot, claims: Claims, clock: Clock, *, name: str, ttl_ms: int, beat_seconds: float
    ) -> None:
        self._slot = slot
        self._claims = claims
        self._clock = clock
        self._name = name
        self._ttl_ms = ttl_ms
        self._beat_seconds = beat_seconds
        self._next_at: dict[str, float] = {}
        self._found: dict[str, FoundClaim] = {}
        self._missed = False

    def once(self) -> None:
        """Send the heartbeats that are due. Does not raise if the server can't be asked."""
        claims = {claim.owner: claim for claim in self._slot.claims()}
        for forgotten in self._next_at.keys() - claims.keys():
            del self._next_at[forgotten]
            self._found.pop(forgotten, None)
        now = time.monotonic()
        for claim in claims.values():
            if now >= self._next_at.setdefault(claim.owner, claim.claimed_at + self._beat_seconds):
                self._next_at[claim.owner] = now + self._beat_seconds / 2
                self._beat(claim)

    def is_overdue(self) -> bool:
        """Whether a processor has been running for so long that its process must be ended."""
        now = time.monotonic()
        return any(now > claim.limit_at for claim in self._slot.claims())

    def give_back(self, rq: RqPlace, seconds: float) -> None:
        """Give back the batches that the worker has claimed: it is about to be ended, or has been.

        Returns after ``seconds`` at the latest. A batch that was not given back by then is also run again,
        once its worker has been silent for too long.
        """
        thread = threading.Thread(target=self._give_all_back, args=(rq,), name="give back", daemon=True)
        thread.start()
        thread.join(seconds)

    def _beat(self, claim: NotedClaim) -> None:
        try:
            claimed = self._find(claim)
            renewed = claimed is None or self._claims.renew(
                claimed, due_ms=self._clock.now_ms() + self._ttl_ms
            )
        except ServerError as error:
            if not self._missed:
                log.warning("%s: no heartbeat for %s: %s", self._name, claim.owner, error)
            self._missed = True
            return
        self._missed = False
        if claimed is not None and not renewed and self._is_still_there(claim):
            log.warning("%s: batch %s: it was given to another worker", self._name, printable(claimed.id))
            self._next_at[claim.owner] = inf

    def _find(self, claim: NotedClaim) -> FoundClaim | None:
        """The claimed batch; None if nothing was claimed, or not yet."""
        if claim.owner not in self._found:
            found = self._claims.find(claim.owner, claim.due_ms)
            if found is None:
                return None
            self._found[claim.owner] = found
        return self._found[claim.owner]

    def _is_still_there(self, claim: NotedClaim) -> bool:
        return any(other.owner == claim.owner for other in self._slot.claims())

    def _give_all_back(self, rq: RqPlace) -> None:
        for claim in self._slot.claims():
            try:
                claimed = self._find(claim)
                if claimed is None or not self._claims.give_back(claimed, rq, due_ms=self._clock.now_ms()):
                    continue
            except ServerError as error:
                log.warning("%s: what %s had in hand can't be given back: %s", self._name, claim.owner, error)
            else:
                log.warning("%s: batch %s: given back, to be run elsewhere", self._name, claimed.id)


def heartbeat_of(broker: Broker, slot: Slot) -> RunHeartbeat:
    """The heartbeat of this process, for a worker without a pool."""
    return RunHeartbeat(
        slot, broker.claims, broker.clock,
        name=broker.config.name, ttl_ms=broker.timing.run_ttl_ms, beat_seconds=broker.timing.beat_seconds,
    )  # fmt: skip
