"""MicroBatcher: records events, and passes results and failures to the handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt
from microbatch.broker.process.loggable import message
from microbatch.broker.wire import codec
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.consumer import Consumer
from microbatch.producer.event_checks import EventChecks, refuse_one_event, stopped
from microbatch.producer.linger import Buffer
from microbatch.producer.recorder import CHUNK_BYTES, Recorder
from microbatch.producer.submitter import Submitter
from microbatch.producer.submitting import Submits

log = logging.getLogger(__name__)


class MicroBatcher(Submits):
    """Records events for one batcher, and handles its results.

    Safe to use from several threads and in a forked process. As a context manager it stops, then closes.

    With ``linger``, `record_event` returns before the server holds the event. Events wait in this process for
    up to ``linger`` milliseconds, and a thread sends them together. **If the process is killed or crashes,
    the events that it has not sent yet are lost**: those of ``linger`` and one round trip, or about 11,000
    events or 11 MB while the server is away or slow. `flush`, `stop`, `close` and the end of the program
    send them. ``os._exit`` does not, and a job of ``rq worker`` ends with it.

    Args:
        config: the batcher's settings.
        linger: how long single events may wait in this process, in ms, up to 60,000; 0 or None: not at all.
        broker: the batcher's verbs; without it they are made from the settings.

    Raises:
        ConfigError: no server is set, a handler can't be used, or ``linger`` is not a number of milliseconds.
    """

    def __init__(self, config: Config, *, linger: int | None = None, broker: Broker | None = None) -> None:
        self.config = config
        self._broker = broker if broker is not None else Broker(config)
        self._events = self._broker.events
        self._consumer = Consumer(self._broker)
        self._recorder = Recorder(self._broker)
        self._checks = EventChecks(config)
        self._timing = self._broker.timing
        self._buffer = (
            None if linger in (None, 0) else Buffer(config.name, self._recorder, linger, self._timing)
        )
        self._submitter = Submitter(self._broker, self._recorder) if config.per_event else None
        self._stopped = False

    def record_event(self, event: object, id: str | None = None) -> None:  # noqa: A002 - what it is
        """Record one event. When this returns, the server holds it; with ``linger``, this process does.

        With ``linger`` and an ``id``, the event is sent at once, after the events that linger.

        Args:
            event: anything that pydantic can encode as JSON.
            id: makes it safe to repeat a call that failed in doubt. Of the calls with one id within
                ``dedupe_window`` seconds, one records its event. At most 200 characters.

        Raises:
            EncodeError: the event can't be encoded as JSON or is too large, or the ``id`` is not valid.
                Nothing was sent.
            ConfigError: there is an ``id``, and no ``dedupe_window`` is set.
            Stopped: `stop` was called before.
            BatcherFull: ``max_waiting`` events wait, and no room was made for ``block_when_full`` seconds.
            Unavailable, Refused: nothing was recorded.
            InDoubt: the connection broke after sending, or no replica confirmed. The event may have been
                recorded.

        With ``linger`` and no ``id``, Unavailable, Refused and BatcherFull are raised when the buffer is full
        and the server accepts nothing. This event is then not recorded, and the events in the buffer are
        tried again. `flush` raises InDoubt.
        """
        if self._stopped:
            raise stopped(self.config.name)
        body = codec.encode(event)
        if self._buffer is None:
            self._recorder.record([body], id)
        elif id is None:
            self._recorder.check_sizes([body])
            if not self._buffer.add(body):
                raise stopped(self.config.name)
        else:
            self._buffer.wait_sent()
            self._recorder.record([body], id)

    def record_events(self, events: Iterable[object]) -> int:
        """Record many events, in one round trip per chunk. Returns how many were recorded.

        A chunk (1,000 events or 1 MB of them) is recorded whole or not at all. An event that can't be
        encoded ends the call: the chunks before it were recorded, and its own chunk was not.

        With ``linger``, these events are also sent at once, after the events that linger.

        Raises as `record_event` does without ``linger``, and EncodeError for a text, a mapping or a model.
        """
        refuse_one_event(events)
        # Events in memory are encoded while the chunk before is on its way. Any other source may be slow.
        return self._recorder.record_chunks(self._chunks(events), ahead=isinstance(events, (list, tuple)))

    def _chunks(self, events: Iterable[object]) -> Iterator[list[bytes]]:
        more = iter(events)
        while chunk := codec.encode_some(more, self._recorder.chunk_events, CHUNK_BYTES):
            if self._stopped:
                raise stopped(self.config.name, len(chunk))
            if self._buffer is not None:
                self._buffer.wait_sent()
            yield chunk

    def flush(self) -> None:
        """Return when the server holds every event that any thread of this process recorded before the call.

        It is needed only with ``linger``. It does not cut batches.

        Raises:
            InDoubt: events may or may not have been recorded; the message says how many. They are not sent
                again, and the next flush does not report them. The server holds all others.
            Unavailable, Refused, BatcherFull: the server did not accept the events. They stay in the buffer,
                and are sent when the server accepts them. Call this again to be sure.
        """
        if self._buffer is not None:
            self._buffer.flush()

    def wait_for_results(self, timeout: float | None = None) -> bool:
        """Pass results and failures to the handlers, in this thread, until stopped and all is handled.

        All is handled when every event that any host recorded before the stop is committed or dead, and this
        consumer or another has handled its result. The call then returns True. It returns False if
        ``timeout`` seconds passed first.

        A result is acknowledged after its handler has returned. If the handler raises, this call raises the
        same exception, and the result is delivered again: to the next call, or to another consumer.

        If the server goes away, the call waits for it. Several threads may call this at the same time: each
        is a consumer of its own, and each result goes to one of them.

        It also returns False after `stop_consuming` or `close`.

        Raises:
            Refused: the server answers, but refuses a command. Nothing is lost; call this again.
        """
        return self._consumer.run(timeout)

    def start_consuming(self, on_error: Callable[[Exception], object] | None = None) -> BackgroundConsumer:
        """Start a background thread that handles results as `wait_for_results` does.

        Call it again for a second thread.

        Args:
            on_error: called on that thread with what a handler raised; consuming then goes on. Without it an
                error ends the consumer and is logged, and the consumer's ``stop`` and ``join`` raise it.
        """
        return BackgroundConsumer(self._broker, self._consumer, on_error)

    def stop_consuming(self) -> None:
        """Stop handling results in this batcher, on every thread and for good. Returns at once.

        A handler that is running is not interrupted, and its result is acknowledged. Results that were
        delivered to this process and that no handler has begun go to other consumers at once. Then
        `wait_for_results` returns False, and background consumers end. May be called more than once, and in a
        signal handler.
        """
        self._consumer.quit()

    def stop(self) -> None:
        """Stop recording here, and have all waiting events cut now. Events that linger are sent first.

        May be called more than once, from any thread, and in a signal handler.

        Raises:
            ServerError: the server could not be told. The next tick cuts the waiting events anyway, and
                `wait_for_results` asks the server again. With ``linger``, also what `flush` raises. After
                InDoubt the batcher is stopped; otherwise call this again.
        """
        # There is no lock: two threads that stop at once do it twice, which is harmless.
        self._stopped = True
        doubt = self._flushed()
        if self._submitter is not None:
            self._submitter.wait_sent()
        self._consumer.stop()
        if doubt is not None:
            raise doubt

    def _flushed(self) -> InDoubt | None:
        try:
            self.flush()
        except InDoubt as doubt:
            return doubt
        return None

    def close(self) -> None:
        """Stop consuming, as `stop_consuming` does, and close the connections.

        It waits up to 5 seconds for handlers that are running on other threads. Results that are not handled
        yet stay for other consumers. Those that were delivered to this process go to them at once.

        Events that linger are sent first. Those that can't be sent within 5 seconds are lost, and an error is
        logged that says how many they are. Futures of submitted events that are pending then raise Closed.
        """
        self._stopped = True
        self._consumer.quit()
        if self._buffer is not None:
            self._buffer.close()
        if self._submitter is not None:
            self._submitter.close(self._timing.close_seconds)
        all_over = self._consumer.wait(self._timing.close_seconds)
        self._consumer.leave()
        self._broker.close(in_use=all_over)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._leave(error)
        finally:
            self.close()

    def _leave(self, error: BaseException | None) -> None:
        """Stop, at the end of a block. An error of the stop does not replace an error of the block."""
        try:
            self.stop()
        except Exception as ours:
            if error is None:
                raise
            log.error("%s: it could not be stopped: %s", self.config.name, message(ours))  # noqa: TRY400
