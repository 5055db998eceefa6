"""A consumer that runs until a signal or until all is handled, and handlers that print JSON lines."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.inspect.snapshot import take_snapshot
from microbatch.broker.process.signals import StopSignals
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.batch import BatchFailure, BatchInfo
from microbatch.ops.views.terminal import say_json
from microbatch.producer.consumer import Consumer

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class Consuming:
    """One consumer of a batcher's results, for the main thread.

    Raises:
        ConfigError: a handler can't be used, or there is no server.
    """

    def __init__(self, config: Config) -> None:
        self._broker = Broker(config)
        self._consumer = Consumer(self._broker)
        self._signals = StopSignals(on_first=_let_the_next_interrupt)
        self._done = False

    def run(self, *, follow: bool) -> int:
        """Pass results to the handlers until a signal, or, unless ``follow``, until all so far is handled.

        Returns 0, or 130 after Ctrl-C. Results in hand are finished first; a second Ctrl-C does not wait. A
        server that goes away after the start is waited for.

        Raises:
            ServerError: the server can't be reached at the start, or refuses. Results that were not handled
                stay.
        """
        self._broker.server.check_version()
        with self._signals, self._quitting_at_a_signal():
            if not follow:
                self._finish_what_is_there()
            self._consumer.run(None)
        self._consumer.leave()
        self._broker.close()
        return 128 + signal.SIGINT if self._signals.last == signal.SIGINT else 0

    @contextmanager
    def _quitting_at_a_signal(self) -> Iterator[None]:
        """Make the consumer quit at a signal. A thread does it: a signal handler must not take its locks."""
        watcher = threading.Thread(target=self._watch, name="signals", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._done = True
            self._signals.notify()
            watcher.join()

    def _watch(self) -> None:
        while not (self._signals.count or self._done):
            self._signals.wait(_LOOK_SECONDS)
        if self._signals.count:
            self._consumer.quit()

    def _finish_what_is_there(self) -> None:
        found = take_snapshot(self._broker)
        if found.waiting_events and found.active is None:
            log.warning(
                "%s: %d events wait and no scheduler is active; waiting for one",
                self._broker.config.name, found.waiting_events,
            )  # fmt: skip
        self._consumer.stop(Wake.MARK)


def _let_the_next_interrupt() -> None:
    """The next Ctrl-C ends the process at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def print_result(result: object, batch: BatchInfo) -> None:
    """Write a result as one line of JSON."""
    _print({**_about(batch), "result": result})


def print_failure(failure: BatchFailure) -> None:
    """Write a dead batch as one line of JSON."""
    what = {"error": failure.error, "traceback": failure.traceback, "events": failure.events}
    _print({**_about(failure.batch), "failure": what})


def _about(batch: BatchInfo) -> dict[str, Any]:
    return {
        "batch": batch.id,
        "trigger": batch.trigger,
        "size": batch.size,
        "attempt": batch.attempt,
        "cut_at": batch.cut_at,
        "recorded_at": batch.recorded_at,
    }


def _print(line: dict[str, Any]) -> None:
    """Write the line. It is flushed when this returns, and only then the result counts as handled."""
    say_json(line)
