"""A worker's keys in RQ: renewed while its process lives, deleted when it was killed.

The pool does both, because it sees whether its processes are alive. So a processor that holds the
interpreter's lock delays neither.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from microbatch.broker.errors import ServerError
from microbatch.broker.transport.request import commands
from microbatch.broker.transport.server import Server
from microbatch.worker.slot import Description

log = logging.getLogger(__name__)

_KEEP_SECONDS = 4.0


class ShownWorker:
    """RQ's record of one worker process. Neither method raises if the server can't be asked."""

    def __init__(self, server: Server, about: Description) -> None:
        self._server = server
        self._name = about.name
        self._key = about.worker
        self._executions = f"{about.worker}:executions"
        self._sets = about.worker_sets
        self._seconds = about.shown_seconds
        self._keep_at = 0.0

    def keep(self) -> None:
        """Show that the process is alive, if it is time."""
        now = time.monotonic()
        if now < self._keep_at:
            return
        self._keep_at = now + _KEEP_SECONDS
        try:
            # Expired keys are left to the worker, because this could write only a part of them.
            if self._server.do("EXPIRE", self._key, self._seconds):
                moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                # The expiry is set again, because HSET makes a new key if the old one has expired meanwhile.
                show = commands(
                    ("HSET", self._key, "last_heartbeat", moment), ("EXPIRE", self._key, self._seconds),
                    ("EXPIRE", self._executions, self._seconds),
                )  # fmt: skip
                self._server.perform(show)
        except ServerError as error:
            log.debug("%s: %s is not shown: %s", self._name, self._key, error)

    def forget(self) -> None:
        """Delete the keys of the process, which has ended."""
        changes = [("UNLINK", self._key, self._executions)]
        changes += [("SREM", workers, self._key) for workers in self._sets]
        try:
            self._server.perform(commands(*changes))
        except ServerError as error:
            log.debug("%s: %s can't be deleted, and expires: %s", self._name, self._key, error)
