"""The pool: keeps a number of worker processes running, and sends their heartbeats.

No worker is a fork of a process that has imported the app. So nothing that the app opens or starts on import
is shared between workers.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from microbatch.broker.policy.timing import Timing
from microbatch.broker.process.loop import Loop
from microbatch.broker.process.signals import StopSignals
from microbatch.worker.child import Child
from microbatch.worker.fork_server import ForkServer

log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.25
_GIVE_BACK_SECONDS = 3.0
_SHORT_LIFE_SECONDS = 2.0
_LONGEST_BACK_OFF_SECONDS = 10.0
_NO_ROOM_SECONDS = 1.0


@dataclass
class _Place:
    """One worker's place in the pool, and its current process."""

    child: Child | None = None
    start_at: float = 0.0
    back_off: float = field(default=0.0)


class WorkerPool:
    """Runs ``concurrency`` worker processes of one app, and starts another for each that dies.

    Make it before the app is imported or a thread is started: it forks the process that starts the workers.

    Args:
        app: the app whose batches they run.
        concurrency: how many processes there are.
        grace: how long they may take for the batches in hand when the pool is told to stop, in seconds.
        look_seconds: how often the pool checks whether a process has ended.
    """

    def __init__(
        self, app: str, concurrency: int, grace: float = Timing.grace_seconds, *, look_seconds: float = 0.2
    ) -> None:
        self._server = ForkServer(app)
        self._places = [_Place() for _ in range(concurrency)]
        self._grace = grace
        self._look_seconds = look_seconds
        self._ended: deque[Child] = deque()

    def run(self) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP. Workers then finish the batch in hand.

        A worker that takes longer than ``grace`` is killed, and its batch is given back, to be run elsewhere.
        A second signal does that at once.
        """
        with StopSignals() as signals:
            # Not on the main thread, which must see signals and ends while a server does not answer.
            Loop(self._beat, _BEAT_SECONDS, "heartbeats").start()
            # Not on the thread of the heartbeats: a slow server must not delay those.
            Loop(self._show, _BEAT_SECONDS, "shown workers").start()
            while not signals.count:
                for place in self._places:
                    self._fill(place)
                signals.wait(self._look_seconds)
            self._stop(signals)

    def _stop(self, signals: StopSignals) -> None:
        end_at = time.monotonic() + self._grace
        for child in self._running():
            child.send(signal.SIGTERM)
        while running := self._running():
            if signals.count > 1 or time.monotonic() > end_at:
                log.warning("stopping hard: the batches in hand are given back, to be run elsewhere")
                self._end_hard(running)
                return
            signals.wait(self._look_seconds / 4)

    def _end_hard(self, children: list[Child]) -> None:
        """End all children at the same time, so that waits for a server that is away don't add up."""
        threads = [
            threading.Thread(target=child.end_hard, args=(_GIVE_BACK_SECONDS,), daemon=True)
            for child in children
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _fill(self, place: _Place) -> None:
        now = time.monotonic()
        child = place.child
        if child is not None:
            code = child.poll()
            if code is None:
                return
            short = now - child.started_at < _SHORT_LIFE_SECONDS
            place.back_off = min(max(0.5, place.back_off * 2), _LONGEST_BACK_OFF_SECONDS) if short else 0.0
            log.warning("worker %d ended with %s; starting another", child.pid, _outcome(code))
            self._ended.append(child)
            place.child, place.start_at = None, now + place.back_off
        if now >= place.start_at:
            try:
                place.child = Child(self._server)
            except OSError as error:
                place.start_at = now + _NO_ROOM_SECONDS
                log.warning("no worker can be started: %s; trying again in %g s", error, _NO_ROOM_SECONDS)

    def _running(self) -> list[Child]:
        children = [place.child for place in self._places]
        return [child for child in children if child is not None and child.poll() is None]

    def _beat(self) -> None:
        for child in self._running():
            self._attempt(child.beat)

    def _show(self) -> None:
        for child in self._running():
            self._attempt(child.show)
        while self._ended:
            self._attempt(self._ended.popleft().forget)

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # noqa: BLE001 - the other workers still need their heartbeats
            traceback.print_exc()


def _outcome(code: int) -> str:
    return f"signal {_name_of_signal(-code)}" if code < 0 else f"exit code {code}"


def _name_of_signal(number: int) -> str:
    """The signal's name. Python names only the first and the last of the real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return str(number)
