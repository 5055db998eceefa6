"""The demo: records eight letters on a schedule, and shows what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.inspect.snapshot import Snapshot
from microbatch.broker.wire.batch import BatchInfo
from microbatch.ops.letters import Total
from microbatch.ops.views.demo import DemoView
from microbatch.producer import MicroBatcher

SCHEDULE = (
    (1100, "a"), (1200, "b"), (1300, "d"), (2100, "a"), (2200, "b"), (2300, "c"), (2400, "d"), (4900, "a"),
)  # fmt: skip
"""When to record which letter, in milliseconds from the start."""
STOP_MS = 5000
EXPECTED = (Total(3), Total(4), Total(3), Total(error="could not map letter 'c'"), Total(1))
"""The expected totals of the batches, in the order of their cuts."""

_LEAD_MS = 100  # the start is a tick at least this far ahead, so that it is not missed
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Handled:
    """A batch and its total, as they were handled."""

    total: Total
    batch: BatchInfo


class Timeline:
    """The time since the start. The start is a tick of the batcher, by the server's clock."""

    def __init__(self, broker: Broker) -> None:
        frequency = broker.config.frequency
        now_ms = broker.clock.now_ms()
        self.start_ms = (now_ms + _LEAD_MS) // frequency * frequency + frequency
        self._start = time.monotonic() + (self.start_ms - now_ms) / 1000

    def now_ms(self) -> int:
        return round((time.monotonic() - self._start) * 1000)

    def sleep_until(self, at_ms: int) -> None:
        time.sleep(max(0.0, self._start + at_ms / 1000 - time.monotonic()))


class Demo:
    """One run of the schedule, against a server with a scheduler and workers.

    Args:
        config: the bundled app's settings, with a server.
        view: shows the demo.
    """

    def __init__(self, config: Config, view: DemoView) -> None:
        self._view = view
        self._handled: list[Handled] = []
        self._recorded = 0
        self._next_tick_ms = 0
        self._error: Exception | None = None
        self._config = config.model_copy(update={"result_handler": self._handle})
        self._broker = Broker(self._config)
        self._timeline = Timeline(self._broker)

    def run(self, count: Callable[[], Snapshot]) -> list[str]:
        """Record on schedule, handle the results, and show both.

        ``count`` takes the snapshot of the server at the end. Returns the differences from what was expected.
        """
        with MicroBatcher(self._config) as batcher:
            recording = threading.Thread(target=self._record, args=(batcher,), name="recording")
            recording.start()
            finished = batcher.wait_for_results(timeout=_TIMEOUT_SECONDS)
            recording.join()
        self._broker.close()
        if self._error is not None:
            raise self._error
        found = count()
        by_cut = sorted(self._handled, key=lambda handled: handled.batch.cut_at)
        self._view.ended([handled.total for handled in by_cut], self._recorded, found)
        return differences([handled.total for handled in by_cut], self._recorded, found, finished=finished)

    def _record(self, batcher: MicroBatcher) -> None:
        try:
            for at_ms, letter in SCHEDULE:
                self._tick_until(at_ms)
                batcher.record_event(letter)
                self._recorded += 1
                self._view.recorded(self._timeline.now_ms(), letter)
            self._tick_until(STOP_MS)
            self._view.stopped(self._timeline.now_ms())
        except Exception as error:  # noqa: BLE001 - `run` raises it again in the caller's thread
            self._error = error
        finally:
            batcher.stop()

    def _tick_until(self, at_ms: int) -> None:
        """Wait until ``at_ms``, and show the ticks that pass."""
        frequency = self._config.frequency
        for tick_ms in range(self._next_tick_ms, at_ms + 1, frequency):
            self._timeline.sleep_until(tick_ms)
            self._view.tick(tick_ms)
            self._next_tick_ms = tick_ms + frequency
        self._timeline.sleep_until(at_ms)

    def _handle(self, total: Total, batch: BatchInfo) -> None:
        now_ms = self._timeline.now_ms()
        recorded_ms = round(batch.recorded_at.timestamp() * 1000) - self._timeline.start_ms
        self._handled.append(Handled(total, batch))
        self._view.handled(now_ms, total, batch, latency_ms=now_ms - recorded_ms)


def differences(totals: Sequence[Total], recorded: int, found: Snapshot, *, finished: bool) -> list[str]:
    """The differences from what the schedule says; empty if all is as it should be."""
    said = []
    if not finished:
        said.append(f"the results were not all there after {_TIMEOUT_SECONDS:g} s")
    if tuple(totals) != EXPECTED:
        said.append(f"the totals are {_say(totals)}, not {_say(EXPECTED)}")
    if recorded != len(SCHEDULE):
        said.append(f"{recorded} events were recorded, not {len(SCHEDULE)}")
    counters = found.counters
    ledger = (counters.done_events, counters.dead_events, found.in_flight_batches, found.waiting_events)
    if ledger != (len(SCHEDULE), 0, 0, 0):
        said.append(
            "the server tells of {} events done, {} dead, {} batches in flight, {} events waiting".format(
                *ledger
            )
        )
    return said


def _say(totals: Sequence[Total]) -> str:
    return ", ".join(total.error or str(total.value) for total in totals) or "none"
