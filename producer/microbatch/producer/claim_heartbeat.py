"""The heartbeat of a consumer: extends its claim on entries while their handler is slow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from microbatch.broker.errors import ServerError
from microbatch.broker.process.loop import Loop
from microbatch.broker.state.results import Results

log = logging.getLogger(__name__)


class ClaimHeartbeat:
    """Extends the consumer's claim on its entries every ``every`` seconds. For a ``with`` block."""

    def __init__(self, results: Results, every: float) -> None:
        self._results = results
        self._ids: Sequence[str] = ()
        self._missed = False
        self._loop = Loop(self._extend, every, "claim heartbeat")

    def keep(self, entry_ids: Sequence[str]) -> None:
        """Extend the claim on these entries from now on, and on no others."""
        self._ids = entry_ids

    def _extend(self) -> None:
        if ids := self._ids:
            try:
                self._results.extend_claim(ids)
            except ServerError as error:
                if not self._missed:  # one warning for each outage
                    log.warning("results in hand may be taken over by others: %s", error)
                self._missed = True
            else:
                self._missed = False

    def __enter__(self) -> Self:
        self._loop.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.stop()
