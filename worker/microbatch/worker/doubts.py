"""Claims whose reply was lost.

The reply to a claim can get lost: the connection breaks, or the reply can't be read. The batch may be claimed
by this worker then. No other worker would run it before this one had been silent for long enough to be taken
for dead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, ServerError
from microbatch.broker.state.claims import FoundClaim
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch
from microbatch.broker.wire.text import printable
from microbatch.worker.telling import tell_claimed

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 1.0


class Doubts:
    """One worker's claims in doubt. Each is kept until its batch is found, or until it would have run out."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._claims: list[Claim] = []
        self._look_at = 0.0

    def add(self, claim: Claim) -> None:
        """Add a claim that may have been made."""
        self._claims.append(claim)
        self._look_at = 0.0

    def next(self) -> ClaimedBatch | None:
        """A batch that was claimed and must be run; None if there is none.

        Asks the server only if there are doubts, and once a second: a claim may still be on its way. Raises
        ServerError; the next call then asks again.
        """
        if not self._claims or time.monotonic() < self._look_at:
            return None
        for claim in list(self._claims):
            if (batch := self.resolve(claim)) is not None:
                tell_claimed(self._broker, batch, claim)
                return batch
        self._look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
        return None

    def resolve(self, claim: Claim) -> ClaimedBatch | None:
        """The batch that was claimed; None if there is none, or if it can't be read."""
        found = self._broker.claims.find(claim.owner, claim.due_ms)
        batch = None if found is None else self._read(found)
        if (found is not None or self._broker.clock.now_ms() > claim.due_ms) and claim in self._claims:
            self._claims.remove(claim)
        return batch

    def clear_up(self, claim: Claim) -> None:
        """Give back the batch of a claim whose reply named none that can be run, if one was claimed."""
        try:
            self.resolve(claim)
        except ServerError:
            self.add(claim)

    def resolve_until_answered(self, claim: Claim) -> ClaimedBatch | None:
        """As `resolve`, for a claim that was not added. Raises as `retry_until_answered`."""
        return retry_until_answered(self._broker.config.name, lambda: self.resolve(claim))

    def claimed(self) -> Iterator[FoundClaim]:
        """The batches that were claimed, for a worker that will not run them. Raises ServerError."""
        while self._claims:
            claim = self._claims.pop()
            if (found := self._broker.claims.find(claim.owner, claim.due_ms)) is not None:
                yield found

    def _read(self, found: FoundClaim) -> ClaimedBatch | None:
        try:
            return self._broker.claims.read(found)
        except DecodeError as error:
            log.error("%s: batch %s: %s", self._broker.config.name, printable(found.id), error.public)  # noqa: TRY400
            # Given back so that the scheduler looks at it: it quarantines what is not a batch.
            self._broker.claims.give_back(found, None, due_ms=self._broker.clock.now_ms())
            return None
