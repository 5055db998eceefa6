"""Logs whether a scheduler is active or standing by."""

from __future__ import annotations

import logging

from microbatch.broker.app.config import Config

log = logging.getLogger(__name__)


class Standing:
    """Logs whether one scheduler is active, if that has changed.

    While a server does not do its part nothing is told: this scheduler may still hold the lease.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._is_active = False

    def tell(self, *, is_active: bool) -> None:
        """It is known that this scheduler is active, or that another one is."""
        if is_active == self._is_active:
            return
        self._is_active = is_active
        name, cycle, size = self._config.name, self._config.frequency, self._config.max_size
        if is_active:
            log.info("%s: active, cutting every %d ms and at %d events", name, cycle, size)
        else:
            log.warning("%s: no longer active, standing by", name)
