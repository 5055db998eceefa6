"""RQ's worker class, which survives outages of the server and foreign data in RQ's keys.

What RQ notes, tidies up and is told is not worth a worker's life: the truth is in the ledger. This relies on
what RQ 3.0 calls for it: ``register_birth``, ``register_death``, ``set_state``, ``heartbeat``,
``check_for_suspension``, ``run_maintenance_tasks`` with ``last_cleaned_at``, and, on the thread that listens
for commands, ``handle_payload``, ``_pubsub_exception_handler`` and ``unsubscribe``.
``_set_connection`` would change the time limits of our connections.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from microbatch.broker.errors import ServerError
from microbatch.broker.transport.backoff import PASSING, Backoff
from microbatch.broker.transport.request import commands
from microbatch.broker.transport.server import Server
from microbatch.worker.user_errors import summarize

log = logging.getLogger(__name__)

_LISTEN_AGAIN_SECONDS = 2.0  # between tries of the thread that listens for RQ's commands


class ResilientWorker(SimpleWorker):
    """A worker on one queue.

    Args:
        queue, server, name: what RQ knows it by.
        batcher: whose batches it runs.
        shown_seconds: how long it is still shown when nobody shows it to be alive.

    Raises:
        ServerError: the server can't be reached now, at the start.
    """

    def __init__(self, queue: Queue, server: Server, name: str, batcher: str, *, shown_seconds: int) -> None:
        self._server = server
        self._batcher = batcher
        self._backoff = Backoff(batcher)
        self._shown_state: str | None = None
        self._shown_seconds = shown_seconds
        with server.translated():
            super().__init__(
                [queue],
                name=name,
                connection=server.client,
                serializer=JSONSerializer,
                worker_ttl=self._shown_seconds,
                log_job_description=False,
            )

    def _set_connection(self, connection: Any) -> Any:
        """Leave the connections as they are. RQ would wait for 25 seconds for a reply that does not come."""
        return connection

    def show_state(self, state: str) -> None:
        """Show what this worker is at, if that is not what it is shown to be at."""
        if state != self._shown_state:
            self.set_state(state)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Show what this worker is at."""
        self._shown_state = None
        with self._outliving_the_server():
            super().set_state(state, pipeline)
            self._shown_state = state

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:  # noqa: ARG002 - RQ's signature
        """Show that this worker is alive, for some seconds. RQ would show it until its job's time limit."""
        with self._outliving_the_server():
            super().heartbeat(self._shown_seconds, pipeline)

    def be_listed(self) -> None:
        """Show this worker anew, where the server has lost what it knew of it."""
        with self._outliving_the_server():
            looks = [("SISMEMBER", name, self.key) for name in self.listed_in]
            known = self._server.perform(commands(("HEXISTS", self.key, "birth"), *looks))
            if not all(known):
                self._server.do("UNLINK", self.key)
                self._shown_state = None
                try:
                    super().register_birth()  # type: ignore[no-untyped-call]
                except ValueError:  # the pool has shown it by half in this moment
                    log.debug("%s: %s is listed a little later", self._batcher, self.key)

    @property
    def listed_in(self) -> tuple[str, str]:
        """The keys of RQ's sets that have this worker's key."""
        return REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY % self.queues[0].name

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Wait while somebody has suspended all workers."""
        with self._outliving_the_server():
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        """Tidy up RQ's registries, as far as what stands in them lets RQ do so."""
        # At once: if it fails, it does so again when it is next due only.
        self.last_cleaned_at = datetime.now(UTC)  # type: ignore[assignment]
        try:
            with self._outliving_the_server():
                super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - whatever RQ does about a value that RQ has not written
            log.error("%s: RQ's registries can't be tidied up: %s", self._batcher, summarize(error))  # noqa: TRY400

    def register_birth(self) -> None:
        """Show this worker."""
        with self._outliving_the_server():
            super().register_birth()  # type: ignore[no-untyped-call]

    def register_death(self) -> None:
        """Show no more of this worker."""
        with self._outliving_the_server():
            super().register_death()  # type: ignore[no-untyped-call]

    def unsubscribe(self) -> None:
        """Listen to RQ's commands no more."""
        with self._outliving_the_server():
            super().unsubscribe()  # type: ignore[no-untyped-call]

    def handle_payload(self, message: Any) -> None:
        """Follow a command, if it is one. On the thread that listens, which is to go on."""
        try:
            super().handle_payload(message)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("%s: a command to this worker can't be followed: %s", self._batcher, summarize(error))

    def _pubsub_exception_handler(self, exc: Exception, _pubsub: Any, _pubsub_thread: Any) -> None:
        """RQ's listener for commands has lost the server: the worker's loop says so, and waits for both."""
        try:
            with self._server.translated():
                raise exc
        except PASSING:
            time.sleep(_LISTEN_AGAIN_SECONDS)

    @contextmanager
    def _outliving_the_server(self) -> Iterator[None]:
        try:
            with self._server.translated():
                yield
        except ServerError as error:
            self._backoff.failed(error)
