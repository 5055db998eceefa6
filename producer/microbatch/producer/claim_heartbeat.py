"""The heartbeat of a consumer: extends its claim on entries while their handler is slow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from microbatch.broker.errors import ServerError
from microbatch.broker.state.results import Results

log = logging.getLogger(__name__)


class ClaimHeartbeat:
    """Extends the consumer's claim on its entries every ``every`` seconds. For a ``with`` block."""

    def __init__(self, results: Results, every: float) -> None:
        self._results = results
        self._every = every
        self._ids: Sequence[str] = ()
        self._missed = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claim heartbeat", daemon=True)

    def keep(self, entry_ids: Sequence[str]) -> None:
        """Extend the claim on these entries from now on, and on no others."""
        self._ids = entry_ids

    def _run(self) -> None:
        while not self._done.wait(self._every):
            ids = self._ids
            if ids:
                try:
                    self._results.extend_claim(ids)
                except ServerError as error:
                    if not self._missed:  # one warning for each outage
                        log.warning("results in hand may be taken over by others: %s", error)
                    self._missed = True
                else:
                    self._missed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
