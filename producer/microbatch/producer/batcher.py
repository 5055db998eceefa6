"""MicroBatcher: records events, and hands what comes of them to the handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt, Stopped
from microbatch.broker.process.loggable import message
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire import codec
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.consumer import Consumer
from microbatch.producer.linger import Buffer
from microbatch.producer.recorder import CHUNK_BYTES, Recorder, refuse_one_event

log = logging.getLogger(__name__)


class MicroBatcher:
    """One batcher, as a producer and a consumer see it.

    Safe to use from several threads and in a forked process. As a context manager it stops, then closes.

    With ``linger``, `record_event` returns before the server holds the event. Events wait in this process for
    up to so many milliseconds, and a thread sends them together. **If the process is killed or crashes, those
    that it has not sent yet are lost**: as many as came within ``linger`` and one round trip, or, while the
    server is away or slow, about 11,000 events or 11 MB. `flush`, `stop`, `close` and the end of the program
    send them; not ``os._exit``, by which a job of ``rq worker`` ends.

    Args:
        config: the batcher's settings.
        linger: how long single events may wait in this process, in ms, up to 60,000; 0 or None: not at all.
        broker: the batcher's verbs, where they are not to be made from its settings.
    Raises:
        ConfigError: no server is set, a handler can't be used, or ``linger`` is not a number of milliseconds.
    """

    def __init__(self, config: Config, *, linger: int | None = None, broker: Broker | None = None) -> None:
        self.config = config
        self._broker = broker if broker is not None else Broker(config)
        self._events = self._broker.events
        self._consumer = Consumer(self._broker)
        self._recorder = Recorder(self._broker)
        self._timing = self._broker.timing
        self._buffer = (
            None if linger in (None, 0) else Buffer(config.name, self._recorder, linger, self._timing)
        )
        self._stopped = False

    def record_event(self, event: object, id: str | None = None) -> None:  # noqa: A002 - what it is
        """Record one event. When this returns, the server holds it; with ``linger``, this process does.

        With ``linger`` and an ``id`` it is sent at once, after what lingers.

        Args:
            event: anything that pydantic can put into JSON.
            id: makes it safe to repeat a call that failed in doubt: of the calls with one id within
                ``dedupe_window`` seconds, one records its event. At most 200 characters.

        Raises:
            EncodeError: it has no JSON, or too much of it; nothing was sent.
            Stopped: `stop` was called before.
            BatcherFull: ``max_waiting`` events wait, and went on to for ``block_when_full`` seconds.
            Unavailable, Refused: nothing was recorded.
            InDoubt: the connection broke after sending, or no replica confirmed: it may have been recorded.

        With ``linger`` and no ``id``, Unavailable, Refused and BatcherFull come when the buffer is full and
        the server takes nothing: this event is not recorded, those in the buffer are tried again. InDoubt
        comes from `flush`.
        """
        if self._stopped:
            raise _is_stopped(self.config.name, "the event was")
        body = codec.encode(event)
        if self._buffer is None:
            self._recorder.record([body], id)
        elif id is None:
            self._recorder.check_sizes([body])
            if not self._buffer.add(body):
                raise _is_stopped(self.config.name, "the event was")
        else:
            self._buffer.wait_sent()
            self._recorder.record([body], id)

    def record_events(self, events: Iterable[object]) -> int:
        """Record many events, in one round trip per chunk. Returns how many.

        A chunk (1,000 events or 1 MB of them) is recorded whole or not at all. An event that can't be
        encoded ends it: the chunks before that were recorded, the one that it is in was not.

        With ``linger`` they are sent at once as well, after what lingers.

        Raises as `record_event` does without ``linger``, and EncodeError for a text, a mapping or a model.
        """
        refuse_one_event(events)
        # What is in memory is encoded while the chunk before is on its way. Anything else may take its time.
        return self._recorder.record_chunks(self._chunks(events), ahead=isinstance(events, (list, tuple)))

    def _chunks(self, events: Iterable[object]) -> Iterator[list[bytes]]:
        more = iter(events)
        while chunk := codec.encode_some(more, self._recorder.chunk_events, CHUNK_BYTES):
            if self._stopped:
                raise _is_stopped(self.config.name, f"{len(chunk)} events were")
            if self._buffer is not None:
                self._buffer.wait_sent()
            yield chunk

    def flush(self) -> None:
        """Return when the server holds all that this process, on any thread, recorded before the call.

        Of use with ``linger`` alone. It has nothing cut.

        Raises:
            InDoubt: events may or may not have been recorded; it says how many. They are not sent again, and
                the next flush does not tell of them. All others are held.
            Unavailable, Refused, BatcherFull: the server did not take what was sent. It stays in the buffer,
                and is sent when the server takes it; call this again to be sure.
        """
        if self._buffer is not None:
            self._buffer.flush()

    def wait_for_results(self, timeout: float | None = None) -> bool:
        """Hand results and failures to the handlers, in this thread, until stopped and all is handled.

        All is every event that was recorded before the stop, by any host: committed or dead, and its
        result handled, by this consumer or another. Returns True then, or False if ``timeout`` seconds
        passed first.

        A result is acknowledged after its handler has returned. If the handler raises, the exception
        comes out here, and the result is delivered again: to the next call, or to another consumer.

        A server that goes away is waited for. Several threads may be in it at the same time: each is a
        consumer of its own, and each result goes to one of them.

        Returns False as well after `stop_consuming` or `close`.

        Raises:
            Refused: the server answers, but does not do it. Nothing is lost; call it again.
        """
        return self._consumer.run(timeout)

    def start_consuming(self, on_error: Callable[[Exception], object] | None = None) -> BackgroundConsumer:
        """Handle results on a thread of its own from now on, as `wait_for_results` does.

        Call it again for a second thread.

        Args:
            on_error: called on that thread with what a handler raised; consuming then goes on. Without it an
                error ends the consumer, is logged, and is raised by its ``stop`` and ``join``.
        """
        return BackgroundConsumer(self._broker, self._consumer, on_error)

    def stop_consuming(self) -> None:
        """Handle no more results here: not on any thread, and not later. Returns at once.

        A handler that is running is not interrupted, and its result is acknowledged. Results that this
        process was given and has not begun go to other consumers at once. Then `wait_for_results` returns
        False, and background consumers end. May be called in a signal handler, and again.
        """
        self._consumer.quit()

    def stop(self) -> None:
        """Record no more here, and have all that waits cut now.

        May be called again, from any thread, and in a signal handler. What lingers is sent before.
        Raises:
            ServerError: the server could not be told; the next tick cuts what waits all the same. With
                ``linger`` also what `flush` raises: after InDoubt it is stopped, else call this again.
        """
        # Without a lock: two who stop at once do it twice, which harms nothing.
        self._stopped = True
        doubt = self._flushed()
        if not self._consumer.stopping:
            self._consumer.stop_at(self._broker.flushes.ask(Wake.FLUSH))
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

        Handlers that are running on other threads are waited for, for up to 5 seconds. Results that are not
        handled yet stay for other consumers, who get those that this process was given at once.

        What lingers is sent before. If that can't be done within 5 seconds, it is lost, and an error is
        logged that says how many events that are.
        """
        self._stopped = True
        self._consumer.quit()
        if self._buffer is not None:
            self._buffer.close()
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
        """Stop, at the end of a block. What the block raised comes out, whatever the stop comes to."""
        try:
            self.stop()
        except Exception as ours:
            if error is None:
                raise
            log.error("%s: it could not be stopped: %s", self.config.name, message(ours))  # noqa: TRY400


def _is_stopped(name: str, what: str) -> Stopped:
    return Stopped(f"batcher {name!r} was stopped; {what} not recorded")
