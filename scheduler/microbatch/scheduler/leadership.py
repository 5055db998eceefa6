"""Leadership: whether this scheduler is the active one of its batcher.

It holds the lease, shows the scheduler among those that run, and logs when it becomes active or stands by.
"""

from __future__ import annotations

import logging
import threading

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost, ServerError
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.clock import Clock

log = logging.getLogger(__name__)


class Leadership:
    """Whether one scheduler is active, with its lease."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._clock = clock
        self._leaving = threading.Lock()
        self._told_active = False
        self.lease = broker.lease()
        self.is_active = False

    def announce(self) -> None:
        """Show that this scheduler runs, active or standing by."""
        self.lease.announce(self._clock.now_ms())

    def acquire(self) -> bool:
        """Become the active scheduler if there is none. Returns whether this one is active now."""
        self.is_active = self.lease.acquire() or self._seize()
        if not self.is_active:
            self.tell(is_active=False)
        return self.is_active

    def renew(self) -> None:
        """Stay active. Raises LeaseLost if this scheduler is no longer active."""
        if not self.lease.renew():
            raise LeaseLost("the lease ran out")

    def stand_by(self) -> None:
        """Stop being active until the lease is acquired again. Sends nothing."""
        self.is_active = False

    def tell(self, *, is_active: bool) -> None:
        """Log whether this scheduler is active, if that has changed.

        Call this only when it is known: while the server does not answer, this scheduler may hold the lease.
        """
        if is_active == self._told_active:
            return
        self._told_active = is_active
        config = self._broker.config
        if is_active:
            cycle, size = config.frequency, config.max_size
            log.info("%s: active, cutting every %d ms and at %d events", self._name, cycle, size)
        else:
            log.warning("%s: no longer active, standing by", self._name)

    def wake_up(self) -> None:
        """Wake this scheduler's own wait for a word, if it is active. From any thread."""
        with self._leaving:
            if self.is_active:
                try:
                    self._broker.wake.tell(Wake.RECONCILE)
                except ServerError as error:
                    log.debug("%s: the scheduler finds out by itself: %s", self._name, error)

    def hand_over(self) -> None:
        """Release the lease at once, and remove this scheduler from those that are shown. Does not raise."""
        with self._leaving:
            was_active, self.is_active = self.is_active, False
        try:
            self.lease.release()
            self.lease.deregister()
            # These words may have come too late to be read here. The next scheduler looks without them.
            self._broker.wake.take_back(Wake.RECONCILE, Wake.ROOM)
        except ServerError as error:
            log.warning("%s: the lease runs out by itself: %s", self._name, error)
        if was_active:
            log.info("%s: handed over", self._name)

    def _seize(self) -> bool:
        gone = self.lease.seize()
        if gone is not None:
            log.warning("%s: the lease is taken from %s, which has not renewed it for long", self._name, gone)
        return gone is not None
