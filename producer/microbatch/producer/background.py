"""The background consumer: a thread that handles results while the program does other work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from microbatch.broker.app.importing import refuse_while_importing
from microbatch.broker.broker import Broker
from microbatch.broker.process.loggable import trace
from microbatch.producer.consumer import Consumer

log = logging.getLogger(__name__)


class BackgroundConsumer:
    """A thread that handles results, started by `MicroBatcher.start_consuming`.

    It ends

    - when everything recorded before the batcher's `stop` is handled;
    - when `stop`, `MicroBatcher.stop_consuming` or `MicroBatcher.close` tells it to;
    - with an error: what a handler raised, or `ServerError`. It is logged, and `stop` and `join` raise it.

    With ``on_error`` it goes on after an error: ``on_error(error)`` is called on the consumer's thread, and a
    second later the result is delivered again, here or to another consumer. If ``on_error`` raises, the
    consumer ends with that error.

    As a context manager it stops at the end of the block. It ends with its process, whatever it is doing. A
    process that is forked from this one does not have it.
    """

    def __init__(
        self, broker: Broker, consumer: Consumer, on_error: Callable[[Exception], object] | None = None
    ) -> None:
        refuse_while_importing("start_consuming()")
        self._name = name = broker.config.name
        self._pause = broker.timing.error_pause_seconds
        self._consumer = consumer
        self._on_error = on_error
        self._is_told = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name} consumer", daemon=True)
        self._thread.start()

    @property
    def error(self) -> BaseException | None:
        """The error that the consumer ended with; None if it ended without one or is still running."""
        return self._error

    @property
    def is_running(self) -> bool:
        """Whether the consumer is still running."""
        return self._thread.is_alive()

    def stop(self, timeout: float | None = None) -> bool:
        """End the consumer when the running handler has returned, and wait for that as `join` does.

        Results that were delivered to it and that no handler has begun go to other consumers at once. May be
        called more than once. Raises as `join` does.
        """
        self._is_told = True
        self._consumer.wake()
        return self.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for up to ``timeout`` seconds until the consumer has ended. Returns whether it has.

        In a handler, on the consumer's own thread, it does not wait.

        Raises:
            Exception: the error that the consumer ended with: what a handler raised, or a ServerError because
                the server refused.
        """
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except Exception:
            if error is None:
                raise
            # This error was logged when it was raised. The error of the block goes on.

    def _run(self) -> None:
        try:
            while not self._consume():
                self._consumer.pause(self._pause, is_told=self._stops)
        except BaseException as error:  # noqa: BLE001 - any error, or it would be lost with the thread
            self._error = error
            # Its text may quote a result, so it is not logged. `stop` and `join` raise the error itself.
            log.error("%s: the background consumer ends: %s", self._name, trace(error))  # noqa: TRY400

    def _consume(self) -> bool:
        """Handle results. Returns True when the consumer must end, and False to go on after an error."""
        try:
            self._consumer.run(None, is_told=self._stops)
        except Exception as error:
            if self._on_error is None:
                raise
            self._on_error(error)
            return self._is_told
        return True

    def _stops(self) -> bool:
        return self._is_told
