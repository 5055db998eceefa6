"""One member of the group that handles a batcher's results: reads entries, and calls their handlers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.state.results import Entry
from microbatch.broker.transport.backoff import PASSING, Backoff
from microbatch.broker.transport.listener import Listener
from microbatch.producer.absence import AbsenceWatch
from microbatch.producer.claim_heartbeat import ClaimHeartbeat
from microbatch.producer.drain import Drain
from microbatch.producer.handlers import Handlers

log = logging.getLogger(__name__)

_COUNT = 10
_FORGET_AFTER = 10  # times claim_after: a consumer that is silent for longer and has no entries is gone


class Member:
    """One membership, with its own connection and handlers. For one thread at a time.

    Only `wake` may be called from other threads.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._timing = broker.timing
        self._name = broker.config.name
        self._log = FailureLog(log)
        self._absence = AbsenceWatch(broker)
        self._handlers = Handlers(broker)
        self._results = broker.results()
        self._progress = broker.progress()
        self._listener = Listener(broker.server)
        self.wake = self._listener.wake
        self._claim_after = broker.config.claim_after
        self._claim_at = self._forget_at = 0.0
        self._joined = False
        self._handled: list[str] = []
        """Entries whose handler has returned and that are not acknowledged yet."""
        self._untold: list[Callable[[], None]] = []
        """Calls that tell the observer of these entries once they are acknowledged."""
        self._backoff = Backoff(self._name)
        self.thread = 0
        """The thread that uses this membership."""
        self.over = threading.Lock()
        """Held by that thread while it uses this membership."""

    def run(self, is_told: Callable[[], bool], drain: Callable[[], Drain | None], until: float) -> bool:
        """Handle entries until the drain is reached. Returns True then.

        Returns False when ``is_told`` returns true, or at ``until``.
        """
        unhandled = True  # entries of an earlier call, or delivered in a reply that was lost
        with ClaimHeartbeat(self._results, self._claim_after / 3) as heartbeat:
            while time.monotonic() < until:
                self._listener.clear()
                if is_told():
                    self._hand_back(unhandled=unhandled)
                    break
                try:
                    self._join()
                    self._acknowledge()
                    entries = (
                        self._results.read_own(count=_COUNT) if unhandled else self._next(drain(), until)
                    )
                except PASSING as error:
                    unhandled = True
                    self._wait(error, is_told, until)
                    continue
                self._backoff.succeeded()
                if entries is None:
                    return True
                all_handled = self._handle(entries, is_told, until, heartbeat)
                unhandled = (unhandled and bool(entries)) or not all_handled
        return False

    def pause(self, seconds: float, is_told: Callable[[], bool]) -> None:
        """Wait for ``seconds``, or until a wake finds that ``is_told`` returns true."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._listener.clear()
            if is_told():
                return
            self._listener.pause(left)

    def leave(self) -> None:
        """Leave the group, if it has joined. Entries that were not handled go to the others at once."""
        self._listener.close()
        self._acknowledge()
        if self._joined:
            self._joined = False
            self._results.leave_group()

    def _join(self) -> None:
        if not self._joined:
            self._results.prepare()
            self._joined = True

    def _wait(self, error: ServerError, is_told: Callable[[], bool], until: float) -> None:
        """Wait for a server that is away, or that refuses for now."""
        if not is_told():
            self._listener.pause(min(self._backoff.failed(error), until - time.monotonic()))

    def _next(self, drain: Drain | None, until: float) -> list[Entry] | None:
        """The entries to handle next, empty if there are none yet. None if no more will come."""
        now = time.monotonic()
        if now >= self._claim_at:
            self._claim_at = now + self._claim_after / 6
            if taken := self._results.take_over(idle_ms=int(self._claim_after * 1000 * 5 / 6), count=_COUNT):
                self._claim_at = now  # there may be more
                return taken
            self._forget_the_silent(now)
        wait_ms = int((min(self._claim_at, now + self._timing.longest_wait_seconds, until) - now) * 1000)
        if drain is None:
            if not (entries := self._wait_for_entries(wait_ms)):
                self._absence.look()
            return entries
        self._progress.open()  # before the first look, so that any later change ends the wait
        if entries := self._results.read(count=_COUNT):
            return entries
        if drain.reached():
            return None
        if not self._listener.perform(self._progress.wait.asked(wait_ms)):
            drain.remind()
            self._tell_what_holds_back()
            self._absence.look()
        return []

    def _wait_for_entries(self, wait_ms: int) -> list[Entry]:
        return self._listener.perform(self._results.wait.asked(count=_COUNT, wait_ms=wait_ms))

    def _tell_what_holds_back(self) -> None:
        """Log why the drain is not reached, if the scheduler says that cutting is held back."""
        if reason := self._broker.held_back():
            self._log.note(logging.WARNING, "held back", f"{self._name}: still waiting, held back: {reason}")

    def _forget_the_silent(self, now: float) -> None:
        """Remove consumers that died without leaving. Otherwise they stay in the group forever."""
        if now >= self._forget_at:
            self._forget_at = now + self._claim_after
            if gone := self._results.forget_silent(idle_ms=int(self._claim_after * 1000 * _FORGET_AFTER)):
                log.info("%s: %d consumers are gone, and forgotten", self._name, gone)

    def _handle(
        self, entries: Sequence[Entry], is_told: Callable[[], bool], until: float, heartbeat: ClaimHeartbeat
    ) -> bool:
        """Call the handlers for entries, and acknowledge together those whose handler has returned.

        Returns whether all were handled and acknowledged. No handler is called once this is told to end, or
        once a request to the server has failed.
        """
        heartbeat.keep([entry.id for entry in entries])
        self._absence.came(len(entries))
        acknowledge_at = time.monotonic() + self._timing.acknowledge_seconds
        try:
            for entry in entries:
                if is_told():
                    return False
                if entry.is_hint:
                    self._claim_at = 0.0
                else:
                    # Separate from the call: an error that the handler raises must not be waited for.
                    try:
                        call = self._handlers.call_for(entry, self._results)
                    except PASSING as error:
                        self._wait(error, is_told, until)
                        return False
                    if call is not None:
                        call.make()
                        self._untold.append(call.tell_handled)
                self._handled.append(entry.id)
                if time.monotonic() >= acknowledge_at:
                    if not self._is_acknowledged():
                        return False
                    acknowledge_at = time.monotonic() + self._timing.acknowledge_seconds
        finally:
            all_acknowledged = self._is_acknowledged()
            heartbeat.keep([])
        return all_acknowledged

    def _is_acknowledged(self) -> bool:
        """Acknowledge. Returns whether that succeeded: if not, `run` waits for the server and tries again."""
        try:
            self._acknowledge()
        except PASSING as error:
            log.debug("%s: what is handled is acknowledged later: %s", self._name, error)
            return False
        return True

    def _acknowledge(self) -> None:
        """Acknowledge the handled entries. May be repeated. Raises ServerError."""
        if self._handled:
            self._results.acknowledge(tuple(self._handled))
            self._handled.clear()
            untold, self._untold = self._untold, []
            for tell in untold:
                tell()

    def _hand_back(self, *, unhandled: bool) -> None:
        """Give entries that no handler has begun to the others. If that fails, they take them over later."""
        if self._joined:
            try:
                self._acknowledge()  # handled entries must not go to the others
                if unhandled:
                    self._results.hand_back()
            except ServerError as error:
                log.debug("%s: what was not begun is taken over later: %s", self._name, error)
