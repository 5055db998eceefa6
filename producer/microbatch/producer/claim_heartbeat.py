"""The heartbeat of a consumer: extends its claim on entries while their handler is slow."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from microbatch.broker.errors import ServerError
from microbatch.broker.state.results import Results
from microbatch.broker.transport.request import Steps
from microbatch.broker.transport.verb import S_co, Verbs, verb

log = logging.getLogger(__name__)


class ClaimHeartbeat(Verbs[S_co]):
    """Extends the consumer's claim on its entries with each `beat`. A client beats every ``seconds``."""

    def __init__(self, results: Results[S_co], seconds: float) -> None:
        super().__init__(results.server)
        self.seconds = seconds
        self._results = results
        self._ids: Sequence[str] = ()
        self._missed = False

    def keep(self, entry_ids: Sequence[str]) -> None:
        """Extend the claim on these entries from now on, and on no others."""
        self._ids = entry_ids

    @verb
    def beat(self) -> Steps[None]:
        """Extend the claim. An error of the server is logged, once for each outage."""
        if not (ids := self._ids):
            return
        try:
            yield from self._results.extend_claim.asked(ids)
        except ServerError as error:
            if not self._missed:
                log.warning("results in hand may be taken over by others: %s", error)
            self._missed = True
        else:
            self._missed = False
