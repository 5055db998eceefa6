"""The scheduler of one batcher: holds the lease, and cuts at ticks and when it is woken.

Any number may run; the one that holds the lease is active and the others stand by.
"""

from __future__ import annotations

import logging
import threading
import time
from math import inf

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, LeaseChanged, LeaseLost, ServerError
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import LeaseWatch, ServerWakeListener, WakeListener
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.clock import Clock
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import new_batch
from microbatch.scheduler.cutting import Cut, Planner
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.maintenance import Maintenance
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.reconciler import Reconciler
from microbatch.scheduler.standing import Standing
from microbatch.scheduler.ticker import GridTicker, Ticker

log = logging.getLogger(__name__)


class Scheduler:
    """Cuts the batches of one batcher.

    Args:
        config: the batcher.
        broker, clock, ticker, listener: what it works with; tests pass their own.
    """

    def __init__(
        self,
        config: Config,
        *,
        broker: Broker | None = None,
        clock: Clock | None = None,
        ticker: Ticker | None = None,
        listener: WakeListener | None = None,
    ) -> None:
        self.config = config
        self.broker = broker if broker is not None else Broker(config, clock=clock)
        self.active = False
        self._timing = self.broker.timing
        self._clock = clock if clock is not None else self.broker.clock
        self._ticker = ticker if ticker is not None else GridTicker(config.frequency)
        self._listener = listener or ServerWakeListener(self.broker.server, self.broker.keys)
        self._standing = Standing(config)
        self._lease = self.broker.lease()
        self._queue = JobQueue(config, self.broker.server, self._timing.finished_job_seconds)
        self._gates = Gates(self.broker)
        self._reconciler = Reconciler(self.broker, self._queue, self._lease, self._gates)
        self._maintenance = Maintenance(self.broker, self._queue)
        self._planner = Planner(config.max_size, config.max_bytes)
        self._owed: Trigger | None = None  # why the rest was to be cut, where there was no room
        self._stopping = threading.Event()
        self._leaving = threading.Lock()
        self._announce_at = self._renew_at = self._reconcile_at = self._mark_at = 0.0

    def run(self) -> None:
        """Work until `stop`. A server that goes away is waited for."""
        backoff = Backoff(self.config.name)
        while not self._stopping.is_set():
            try:
                self.run_once()
            except LeaseLost:
                self._stand_by()
                self._standing.tell(is_active=False)
            except (ServerError, DecodeError) as error:
                self._stand_by()
                if not self._maintenance.after(error):
                    self._stopping.wait(backoff.failed(error))
            else:
                backoff.succeeded()
        self._hand_over()

    def stop(self) -> None:
        """Make `run` return soon, from any thread: the lease is handed over at once."""
        self._stopping.set()
        with self._leaving:
            if self.active:
                try:
                    self.broker.wake.tell(Wake.RECONCILE)
                except ServerError as error:
                    log.debug("%s: the scheduler finds out by itself: %s", self.config.name, error)

    def run_once(self) -> int:
        """One step: be or become active, wait for a wake-up or a tick, cut, look after what is in flight.

        Returns the number of batches cut.

        Raises:
            LeaseLost: another scheduler is the active one; nothing was cut.
            ServerError: the server could not be asked; what was not done is found again by the next step.
        """
        if not self._stay_active():
            self._stopping.wait(self._timing.acquire_seconds)
            return 0
        wakeup = self._listener.wait(self._seconds_to_wait())
        word = None if wakeup is None else wakeup.word
        if self._stopping.is_set():
            if word is Wake.FLUSH and self.broker.events.waiting():
                self.broker.wake.tell(word)  # for the next active scheduler
            return 0
        if word is Wake.RECONCILE or (word is Wake.ROOM and self._gates.retries_wait):
            self._reconcile_at = 0.0
        rest = self._why_cut_the_rest(word)
        # At a tick events may have come since the bell rang, and their cycle is over.
        made = self._cut(rest, None if wakeup is None or rest is Trigger.TICK else wakeup.watch)
        self._look_after()
        return made

    def _stay_active(self) -> bool:
        now = time.monotonic()
        if now >= self._announce_at:
            self._lease.announce(self._clock.now_ms())
            self._announce_at = now + self._timing.announce_seconds
        if self.active and now >= self._renew_at:
            if not self._lease.renew():
                raise LeaseLost("the lease ran out")
            self._renew_at = now + self._timing.renew_seconds
        elif not self.active:
            if self._lease.acquire() or self._seize():
                self._renew_at = now + self._timing.renew_seconds
                self._become_active()
            else:
                self._standing.tell(is_active=False)
        return self.active

    def _seize(self) -> bool:
        gone = self._lease.seize()
        if gone is not None:
            log.warning(
                "%s: the lease is taken from %s, which has not renewed it for long", self.config.name, gone
            )
        return gone is not None

    def _become_active(self) -> None:
        self.active = True
        self._queue.prepare()
        self.broker.publish_config()
        self._gates.reset()
        self._standing.tell(is_active=True)
        self._reconciler.begin()
        self._reconcile_at = 0.0
        self._look_after()  # before the first cut: the breaker may be open

    def _seconds_to_wait(self) -> float:
        until_tick = self._ticker.remaining_ms(self._clock.now_ms()) / 1000
        until_chores = min(self._renew_at, self._reconcile_at) - time.monotonic()
        retry_ms = self._reconciler.next_retry_ms
        until_retry = inf if retry_ms is None else (retry_ms - self._clock.now_ms()) / 1000
        return max(0.0, min(until_tick, until_chores, until_retry))

    def _why_cut_the_rest(self, word: Wake | None) -> Trigger | None:
        ticked = self._ticker.ticked(self._clock.now_ms())
        if word is Wake.FLUSH:
            return Trigger.FLUSH
        return Trigger.TICK if ticked else self._owed

    def _cut(self, rest: Trigger | None, watch: LeaseWatch | None) -> int:
        made, self._owed = 0, rest
        self._planner.begin()
        while not self._stopping.is_set():
            room = self._gates.room_for_cuts()
            if not room:
                return made
            try:
                cuts = self._cut_once(rest, watch, room)
            except LeaseChanged:
                if watch is None:
                    raise
                watch = None  # the lease was renewed since the wake-up
                continue
            watch = None
            made += len(cuts)
            if cuts:
                self._gates.spend(len(cuts))
                self._look_after()  # a backlog that never ends must not keep us from it
            if not self._planner.more:
                break
        self._owed = None
        return made

    def _cut_once(self, rest: Trigger | None, watch: LeaseWatch | None, room: int) -> list[Cut]:
        now_ms = self._clock.now_ms()
        with self._lease.fence(watch) as fence:
            cuts = self._planner.plan(fence.waiting, rest, room)
            batches = [new_batch(Header(cut.trigger, cut.size, now_ms)) for cut in cuts]
            made = fence.cut(
                batches,
                self._queue.to_enqueue(batches),
                due_ms=now_ms + self._timing.look_again_ms,
                max_bytes=self.config.max_bytes,
                event_bytes=self._planner.event_bytes,
            )
        self._planner.made(made)
        count = len(made.sizes)
        self._queue.forget(batches[count:])
        if count:
            self.broker.observer.cut(batcher=self.config.name, batches=made.of(batches))
        return cuts[:count]

    def _look_after(self) -> None:
        now, retry_ms = time.monotonic(), self._reconciler.next_retry_ms
        if now >= self._reconcile_at or (retry_ms is not None and self._clock.now_ms() >= retry_ms):
            self._reconciler.run_once()
            self._reconcile_at = now + self._timing.reconcile_seconds
        if now >= self._mark_at:
            self._maintenance.run_once(self._clock.now_ms())
            self._mark_at = now + self._timing.maintain_seconds

    def _stand_by(self) -> None:
        self.active = False
        self._listener.close()

    def _hand_over(self) -> None:
        with self._leaving:
            was_active, self.active = self.active, False
        self._listener.close()
        try:
            self._lease.release()
            self._lease.deregister()
            # They may have come too late to be read here. The next one looks by itself.
            self.broker.wake.take_back(Wake.RECONCILE, Wake.ROOM)
        except ServerError as error:
            log.warning("%s: the lease runs out by itself: %s", self.config.name, error)
        if was_active:
            log.info("%s: handed over", self.config.name)
        self.broker.close()
