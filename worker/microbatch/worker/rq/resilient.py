"""RQ's worker class, which survives outages of the server and foreign data in RQ's keys.

A worker must not end because RQ's records can't be written or cleaned up: the truth is in the ledger. This
relies on the methods that RQ 3.0 calls for them: ``register_birth``, ``register_death``, ``set_state``,
``heartbeat``, ``check_for_suspension``, ``run_maintenance_tasks`` with ``last_cleaned_at``, and, on the
thread that listens for commands, ``handle_payload``, ``_pubsub_exception_handler`` and ``unsubscribe``. RQ's
``_set_connection`` would change the timeouts of our connections.
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
        queue: the RQ queue that it works on.
        server: the server of that queue.
        name: its name in RQ.
        batcher: the batcher whose batches it runs.
        shown_seconds: how long RQ still shows it after the last sign of life.

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
        """Leave the connections as they are. RQ would wait 25 seconds for a reply that does not come."""
        return connection

    def show_state(self, state: str) -> None:
        """Show this state of the worker, if RQ does not show it already."""
        if state != self._shown_state:
            self.set_state(state)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Show this state of the worker."""
        self._shown_state = None
        with self._outliving_the_server():
            super().set_state(state, pipeline)
            self._shown_state = state

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:  # noqa: ARG002 - RQ's signature
        """Show that this worker is alive, for some seconds. RQ would show it until the job's time limit."""
        with self._outliving_the_server():
            super().heartbeat(self._shown_seconds, pipeline)

    def be_listed(self) -> None:
        """Show this worker again, if the server has lost its keys."""
        with self._outliving_the_server():
            looks = [("SISMEMBER", name, self.key) for name in self.listed_in]
            known = self._server.perform(commands(("HEXISTS", self.key, "birth"), *looks))
            if not all(known):
                self._server.do("UNLINK", self.key)
                self._shown_state = None
                try:
                    super().register_birth()  # type: ignore[no-untyped-call]
                except ValueError:  # the pool has written a part of its keys at this moment
                    log.debug("%s: %s is listed a little later", self._batcher, self.key)

    @property
    def listed_in(self) -> tuple[str, str]:
        """The keys of RQ's sets that contain this worker's key."""
        return REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY % self.queues[0].name

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Wait while RQ's workers are suspended."""
        with self._outliving_the_server():
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        """Clean up RQ's registries, as far as their content allows."""
        # Set first, so that after a failure the next try comes only when the clean-up is due again.
        self.last_cleaned_at = datetime.now(UTC)  # type: ignore[assignment]
        try:
            with self._outliving_the_server():
                super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - RQ may raise anything on a value that it has not written
            log.error("%s: RQ's registries can't be tidied up: %s", self._batcher, summarize(error))  # noqa: TRY400

    def register_birth(self) -> None:
        """Show this worker in RQ."""
        with self._outliving_the_server():
            super().register_birth()  # type: ignore[no-untyped-call]

    def register_death(self) -> None:
        """Delete this worker's keys in RQ."""
        with self._outliving_the_server():
            super().register_death()  # type: ignore[no-untyped-call]

    def unsubscribe(self) -> None:
        """Stop listening for RQ's commands."""
        with self._outliving_the_server():
            super().unsubscribe()  # type: ignore[no-untyped-call]

    def handle_payload(self, message: Any) -> None:
        """Follow a command. An error must not end the thread that listens."""
        try:
            super().handle_payload(message)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("%s: a command to this worker can't be followed: %s", self._batcher, summarize(error))

    def _pubsub_exception_handler(self, exc: Exception, _pubsub: Any, _pubsub_thread: Any) -> None:
        """Pause when RQ's listener has lost the server. The worker's loop logs the outage, and waits too."""
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
