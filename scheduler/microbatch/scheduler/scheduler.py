"""The scheduler of one batcher: becomes active, waits for ticks and words, and cuts what is due.

Any number of schedulers may run. The one that holds the lease is active, and the others stand by.
"""

from __future__ import annotations

import threading

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, LeaseLost, ServerError
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import LeaseWatch, ServerWakeListener, WakeListener
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.clock import Clock
from microbatch.broker.wire.header import Trigger
from microbatch.scheduler.chores import Chore, Chores
from microbatch.scheduler.cutter import Cutter
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.leadership import Leadership
from microbatch.scheduler.maintenance import Maintenance
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.reconciler import Reconciler
from microbatch.scheduler.ticker import GridTicker, Ticker


class Scheduler:
    """Cuts the batches of one batcher.

    Args:
        config: the batcher's settings.
        broker, clock, ticker, listener: replacements for tests.
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
        timing = self.broker.timing
        self._acquire_seconds = timing.acquire_seconds
        self._clock = clock if clock is not None else self.broker.clock
        self._ticker = ticker if ticker is not None else GridTicker(config.frequency)
        self._listener = listener or ServerWakeListener(
            self.broker.server, self.broker.keys, counts_jobs=config.eager
        )
        self._leadership = Leadership(self.broker, self._clock)
        lease = self._leadership.lease
        self._queue = JobQueue(config, self.broker.server, timing.finished_job_seconds)
        self._gates = Gates(self.broker)
        self._cutter = Cutter(self.broker, lease, self._queue, self._gates, self._clock)
        self._reconciler = Reconciler(self.broker, self._queue, lease, self._gates)
        self._maintenance = Maintenance(self.broker, self._queue)
        self._announcing = Chore(self._leadership.announce, timing.announce_seconds)
        self._renewing = Chore(self._leadership.renew, timing.renew_seconds)
        self._reconciling = Chore(self._reconcile, timing.reconcile_seconds)
        maintaining = Chore(self._maintain, timing.maintain_seconds)
        self._staying_active = Chores(self._announcing, self._renewing)
        self._chores = Chores(self._announcing, self._renewing, self._reconciling, maintaining)
        self._stopping = threading.Event()

    @property
    def active(self) -> bool:
        """Whether this scheduler was active when it last looked."""
        return self._leadership.is_active

    def run(self) -> None:
        """Work until `stop`. If the server is unavailable, wait for it."""
        backoff = Backoff(self.config.name)
        while not self._stopping.is_set():
            try:
                self.run_once()
            except LeaseLost:
                self._stand_by()
                self._leadership.tell(is_active=False)
            except (ServerError, DecodeError) as error:
                self._stand_by()
                if not self._maintenance.after(error):
                    self._stopping.wait(backoff.failed(error))
            else:
                backoff.succeeded()
        self._listener.close()
        self._leadership.hand_over()
        self.broker.close()

    def stop(self) -> None:
        """Make `run` return soon, with the lease handed over. Any thread may call it, more than once."""
        self._stopping.set()
        self._leadership.wake_up()

    def run_once(self) -> int:
        """One step: be or become active, wait for a word or a tick, cut, and run the chores that are due.

        Returns the number of batches cut.

        Raises:
            LeaseLost: another scheduler is the active one; nothing was cut.
            ServerError: the server could not be asked; the next step finds what was not done.
        """
        if not self._is_active_now():
            self._stopping.wait(self._acquire_seconds)
            return 0
        wakeup = self._listener.wait(self._seconds_to_wait())
        word = None if wakeup is None else wakeup.word
        if self._stopping.is_set():
            if word is Wake.FLUSH and self.broker.events.waiting():
                self.broker.wake.tell(word)  # for the next active scheduler
            return 0
        self._take_note(word)
        rest = self._why_cut_the_rest(word)
        # At a tick, look again: events may have come since the wake-up, and their cycle is over too.
        return self._cut(rest, None if wakeup is None or rest is Trigger.TICK else wakeup.watch)

    def _is_active_now(self) -> bool:
        """Be or become active."""
        if self.active:
            self._staying_active.run_due()
            return True
        self._announcing.run_if_due()
        if self._leadership.acquire():
            self._renewing.put_off()
            self._become_active()
        return self.active

    def _become_active(self) -> None:
        self._queue.prepare()
        self.broker.publish_config()
        self._gates.reset()
        self._cutter.begin()
        self._leadership.tell(is_active=True)
        self._reconciler.begin()
        self._reconciling.bring_forward()
        self._chores.run_due()  # before the first cut: the breaker may be open

    def _seconds_to_wait(self) -> float:
        if self._cutter.look_at_once:
            return 0.0
        until_tick = self._ticker.remaining_ms(self._clock.now_ms()) / 1000
        return max(0.0, min(until_tick, self._chores.seconds_left))

    def _take_note(self, word: Wake | None) -> None:
        if word is Wake.RECONCILE or (word is Wake.ROOM and self._gates.retries_wait):
            self._reconciling.bring_forward()
        if word in {Wake.FLUSH, Wake.MARK}:
            self._cutter.flush_marks.look_due = True

    def _why_cut_the_rest(self, word: Wake | None) -> Trigger | None:
        ticked = self._ticker.ticked(self._clock.now_ms())
        if word is Wake.FLUSH:
            return Trigger.FLUSH
        if ticked:
            return Trigger.TICK
        return self._cutter.owed or (Trigger.IDLE if self.config.eager else None)

    def _cut(self, rest: Trigger | None, watch: LeaseWatch | None) -> int:
        made = 0
        for cut in self._cutter.cut(rest, watch):
            made += cut
            self._chores.run_due()  # also during a backlog that never ends
            if self._stopping.is_set():
                return made
        self._chores.run_due()
        self._cutter.look_at_once |= self._gates.room.has_grown()
        return made

    def _reconcile(self) -> float | None:
        """Returns the number of seconds until the next retry is due; None if no retry waits."""
        self._reconciler.run_once()
        retry_ms = self._reconciler.next_retry_ms
        return None if retry_ms is None else max(0.0, (retry_ms - self._clock.now_ms()) / 1000)

    def _maintain(self) -> None:
        self._maintenance.run_once(self._clock.now_ms())

    def _stand_by(self) -> None:
        self._leadership.stand_by()
        self._listener.close()
