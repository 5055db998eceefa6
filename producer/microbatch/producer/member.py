"""One member of the group that handles a batcher's results: reads entries, and has their handlers called."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Generic

from microbatch.broker.broker import CommonBroker
from microbatch.broker.errors import ServerError
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.state.results import Entry
from microbatch.broker.transport.backoff import PASSING, Backoff
from microbatch.broker.transport.verb import S_co
from microbatch.producer.absence import AbsenceWatch
from microbatch.producer.claim_heartbeat import ClaimHeartbeat
from microbatch.producer.drain import Drain
from microbatch.producer.handlers import Handlers
from microbatch.producer.work import Listen, Pause, Work

log = logging.getLogger(__name__)

_COUNT = 10
_FORGET_AFTER = 10  # times claim_after: a consumer that is silent for longer and has no entries is gone


class Member(Generic[S_co]):
    """One membership. What it does is work, for one thread or task at a time.

    Args:
        broker: the batcher's.
        handlers: what is called with results and failures.
        clear: forgets all wakes so far, before this looks at what it was told.
        acknowledge_seconds: how long the acknowledgement of a handled result may be delayed while others are
            handled.
    """

    def __init__(
        self,
        broker: CommonBroker[S_co],
        handlers: Handlers[S_co],
        clear: Callable[[], None],
        *,
        acknowledge_seconds: float | None = None,
    ) -> None:
        self._broker = broker
        self._timing = timing = broker.timing
        self._name = broker.config.name
        self._log = FailureLog(log)
        self._absence = AbsenceWatch(broker)
        self._handlers = handlers
        self._results = broker.results()
        self._progress = broker.progress()
        self._clear = clear
        self._acknowledge_seconds = (
            timing.acknowledge_seconds if acknowledge_seconds is None else acknowledge_seconds
        )
        self._claim_after = broker.config.claim_after
        self._claim_at = self._forget_at = 0.0
        self._joined = False
        self._handled: list[str] = []
        """Entries whose handler has returned and that are not acknowledged yet."""
        self._untold: list[Callable[[], None]] = []
        """Calls that tell the observer of these entries once they are acknowledged."""
        self._backoff = Backoff(self._name)
        self.heartbeat = ClaimHeartbeat(self._results, self._claim_after / 3)
        """Beats while `run` is driven."""

    def run(
        self, is_told: Callable[[], bool], drain: Callable[[], Drain[S_co] | None], until: float
    ) -> Work[bool]:
        """Handle entries until the drain is reached. Returns True then.

        Returns False when ``is_told`` returns true, or at ``until``.
        """
        unhandled = True  # entries of an earlier call, or delivered in a reply that was lost
        while time.monotonic() < until:
            self._clear()
            if is_told():
                yield from self._hand_back(unhandled=unhandled)
                break
            try:
                yield from self._join()
                yield from self._acknowledge()
                entries = (
                    (yield from self._results.read_own.asked(count=_COUNT))
                    if unhandled
                    else (yield from self._next(drain(), until))
                )
            except PASSING as error:
                unhandled = True
                yield from self._wait(error, is_told, until)
                continue
            self._backoff.succeeded()
            if entries is None:
                return True
            all_handled = yield from self._handle(entries, is_told, until)
            unhandled = (unhandled and bool(entries)) or not all_handled
        return False

    def pause(self, seconds: float, is_told: Callable[[], bool]) -> Work[None]:
        """Wait for ``seconds``, or until a wake finds that ``is_told`` returns true."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._clear()
            if is_told():
                return
            yield Pause(left)

    def leave(self) -> Work[None]:
        """Leave the group, if it has joined. Entries that were not handled go to the others at once."""
        yield from self._acknowledge()
        if self._joined:
            self._joined = False
            yield from self._results.leave_group.asked()

    def _join(self) -> Work[None]:
        if not self._joined:
            yield from self._results.prepare.asked()
            self._joined = True

    def _wait(self, error: ServerError, is_told: Callable[[], bool], until: float) -> Work[None]:
        """Wait for a server that is away, or that refuses for now."""
        if not is_told():
            yield Pause(min(self._backoff.failed(error), until - time.monotonic()))

    def _next(self, drain: Drain[S_co] | None, until: float) -> Work[list[Entry] | None]:
        """The entries to handle next, empty if there are none yet. None if no more will come."""
        now = time.monotonic()
        if now >= self._claim_at:
            self._claim_at = now + self._claim_after / 6
            idle_ms = int(self._claim_after * 1000 * 5 / 6)
            if taken := (yield from self._results.take_over.asked(idle_ms=idle_ms, count=_COUNT)):
                self._claim_at = now  # there may be more
                return taken
            yield from self._forget_the_silent(now)
        wait_ms = int((min(self._claim_at, now + self._timing.longest_wait_seconds, until) - now) * 1000)
        if drain is not None:
            return (yield from self._next_until_drained(drain, wait_ms))
        entries: list[Entry] = yield Listen(self._results.wait.asked(count=_COUNT, wait_ms=wait_ms))
        if not entries:
            yield from self._absence.look.asked()
        return entries

    def _next_until_drained(self, drain: Drain[S_co], wait_ms: int) -> Work[list[Entry] | None]:
        # Before the first look, so that any later change ends the wait.
        yield from self._progress.open.asked()
        if entries := (yield from self._results.read.asked(count=_COUNT)):
            return entries
        if (yield from drain.reached.asked()):
            return None
        if not (yield Listen(self._progress.wait.asked(wait_ms))):
            yield from drain.remind.asked()
            yield from self._tell_what_holds_back()
            yield from self._absence.look.asked()
        return []

    def _tell_what_holds_back(self) -> Work[None]:
        """Log why the drain is not reached, if the scheduler says that cutting is held back."""
        if reason := (yield from self._broker.held_back.asked()):
            self._log.note(logging.WARNING, "held back", f"{self._name}: still waiting, held back: {reason}")

    def _forget_the_silent(self, now: float) -> Work[None]:
        """Remove consumers that died without leaving. Otherwise they stay in the group forever."""
        if now >= self._forget_at:
            self._forget_at = now + self._claim_after
            idle_ms = int(self._claim_after * 1000 * _FORGET_AFTER)
            if gone := (yield from self._results.forget_silent.asked(idle_ms=idle_ms)):
                log.info("%s: %d consumers are gone, and forgotten", self._name, gone)

    def _handle(self, entries: Sequence[Entry], is_told: Callable[[], bool], until: float) -> Work[bool]:
        """Call the handlers for entries, and acknowledge together those whose handler has returned.

        Returns whether all were handled and acknowledged. No handler is called once this is told to end, or
        once a request to the server has failed.
        """
        self.heartbeat.keep([entry.id for entry in entries])
        self._absence.came(len(entries))
        acknowledge_at = time.monotonic() + self._acknowledge_seconds
        try:
            for entry in entries:
                if is_told():
                    return False
                if not (yield from self._handle_one(entry, is_told, until)):
                    return False
                self._handled.append(entry.id)
                if time.monotonic() >= acknowledge_at:
                    if not (yield from self._is_acknowledged()):
                        return False
                    acknowledge_at = time.monotonic() + self._acknowledge_seconds
        finally:
            all_acknowledged = yield from self._is_acknowledged()
            self.heartbeat.keep([])
        return all_acknowledged

    def _handle_one(self, entry: Entry, is_told: Callable[[], bool], until: float) -> Work[bool]:
        """Call the handler for an entry. Returns False if the server can't be asked what the call needs."""
        if entry.is_hint:
            self._claim_at = 0.0
            return True
        # Separate from the call: an error that the handler raises must not be waited for.
        try:
            call = yield from self._handlers.call_for(entry, self._results)
        except PASSING as error:
            yield from self._wait(error, is_told, until)
            return False
        if call is not None:
            yield call
            if call.tell_handled is not None:
                self._untold.append(call.tell_handled)
        return True

    def _is_acknowledged(self) -> Work[bool]:
        """Acknowledge. Returns whether that succeeded: if not, `run` waits for the server and tries again."""
        try:
            yield from self._acknowledge()
        except PASSING as error:
            log.debug("%s: what is handled is acknowledged later: %s", self._name, error)
            return False
        return True

    def _acknowledge(self) -> Work[None]:
        """Acknowledge the handled entries. May be repeated. Raises ServerError."""
        if self._handled:
            yield from self._results.acknowledge.asked(tuple(self._handled))
            self._handled.clear()
            untold, self._untold = self._untold, []
            for tell in untold:
                tell()

    def _hand_back(self, *, unhandled: bool) -> Work[None]:
        """Give entries that no handler has begun to the others. If that fails, they take them over later."""
        if self._joined:
            try:
                yield from self._acknowledge()  # handled entries must not go to the others
                if unhandled:
                    yield from self._results.hand_back.asked()
            except ServerError as error:
                log.debug("%s: what was not begun is taken over later: %s", self._name, error)
