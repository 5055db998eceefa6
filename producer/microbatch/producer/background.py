"""The background consumer: a thread that handles results while the program does something else."""

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
    """A thread that handles results, as `MicroBatcher.start_consuming` starts it.

    It ends

    - when everything recorded before the batcher's `stop` is handled;
    - when it is told to by `stop`, by `MicroBatcher.stop_consuming` or by `MicroBatcher.close`;
    - with an error: what a handler raised, or `ServerError`. It is logged, and `stop` and `join` raise it.

    With ``on_error`` it goes on after an error: ``on_error(error)`` is called on the consumer's thread, and a
    second later the result is delivered again, here or to another consumer. If ``on_error`` raises, the
    consumer ends with that error.

    As a context manager it stops at the end of the block. It ends with its process, whatever it is doing. It
    is not there in a process that is forked from this one.
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
        """The error that it ended with; None if there was none, or it goes on."""
        return self._error

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def stop(self, timeout: float | None = None) -> bool:
        """Have it end when the handler in hand has returned, and wait for that as `join` does.

        Results that it was given and has not begun go to other consumers at once. May be called again.
        """
        self._is_told = True
        self._consumer.wake()
        return self.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for up to ``timeout`` seconds. Returns whether it has.

        In a handler, on its own thread, it does not wait.

        Raises:
            Exception: what it ended with, as a handler raised it; or ServerError: the server refused.
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
            # It was logged when it was raised. What the block itself raised comes out.

    def _run(self) -> None:
        try:
            while not self._consume():
                self._consumer.pause(self._pause, is_told=self._stops)
        except BaseException as error:  # noqa: BLE001 - whatever it is, nobody else would hear of it
            self._error = error
            # Its text may quote a result, and comes out of `stop` and `join`.
            log.error("%s: the background consumer ends: %s", self._name, trace(error))  # noqa: TRY400

    def _consume(self) -> bool:
        """Whether it is over, and not only interrupted by an error."""
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
