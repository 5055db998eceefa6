"""The cutter: cuts what is due, one fenced transaction after another."""

from __future__ import annotations

from collections.abc import Iterator

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseChanged, LeaseLost
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.wake_listener import LeaseWatch
from microbatch.broker.transport.clock import Clock
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import new_batch
from microbatch.scheduler.cutting import Planner, View
from microbatch.scheduler.flush_marks import FlushMarks
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.queue import JobQueue


class Cutter:
    """Cuts the batches of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker, lease: Lease, queue: JobQueue, gates: Gates, clock: Clock) -> None:
        self._broker = broker
        self._lease = lease
        self._queue = queue
        self._gates = gates
        self._clock = clock
        self._planner = Planner(broker.config.max_size, broker.config.max_bytes)
        self._eager = broker.config.eager
        self.flush_marks = FlushMarks()
        self.owed: Trigger | None = None
        """Why the rest was due when there was no room for it; None if nothing is owed."""
        self.look_at_once = False
        """Whether the next look must not wait for a word: events may wait of which no word tells."""

    def begin(self) -> None:
        """Start, because the scheduler has just become active."""
        self.flush_marks.reset()
        self.look_at_once = self._eager  # the scheduler before may have ended after it read a word

    def cut(self, rest: Trigger | None, watch: LeaseWatch | None) -> Iterator[int]:
        """Cut full batches, and the rest if ``rest`` says why. Yields the number of batches of each
        transaction that cut some. A caller that stops the iteration leaves the others to a later cut.

        Args:
            rest: why events that are too few for a batch are cut.
            watch: what was seen at the wake-up, which saves a round trip; None means look now.

        Raises:
            LeaseLost: another scheduler is the active one; nothing more is cut.
            ServerError: the server could not be asked, or the reply was lost.
        """
        self.owed, self.look_at_once = rest, False
        self._planner.begin()
        if self.flush_marks.look_due:
            watch = None  # it has not seen the flushes
        while room := self._gates.room_for_cuts(None if watch is None else watch.with_a_job):
            try:
                cut = self._cut_once(rest, watch, room)
            except LeaseChanged:
                if watch is None:
                    raise
                watch = None  # the lease was renewed since the wake-up
                continue
            seen, watch = None if watch is None else watch.with_a_job, None
            if cut:
                self._gates.spend(cut, seen)
                yield cut
            if not self._planner.more:
                self.owed = None
                # An event that came during the cut found events before it, so its producer left no word.
                self.look_at_once = self._planner.left > 0
                return

    def _cut_once(self, rest: Trigger | None, watch: LeaseWatch | None, room: int) -> int:
        now_ms = self._clock.now_ms()
        look_due = self.flush_marks.look_due
        with self._lease.fence(watch, flushes=look_due) as fence:
            self.flush_marks.look(fence.waiting, fence.flushes)
            cuts = self._planner.plan(View(fence.waiting, rest, room))
            batches = [new_batch(Header(cut.trigger, cut.size, now_ms)) for cut in cuts]
            made = fence.cut(
                batches,
                self._queue.to_enqueue(batches),
                due_ms=now_ms + self._broker.timing.look_again_ms,
                max_bytes=self._broker.config.max_bytes,
                event_bytes=self._planner.event_bytes,
                counts_left=self._eager,
            )
        self._planner.made(made)
        self.flush_marks.cut(made.events)
        count = len(made.sizes)
        self._queue.forget(batches[count:])
        if count:
            self._broker.observer.cut(batcher=self._broker.config.name, batches=made.of(batches))
        if number := self.flush_marks.reached():
            self._note_flushed(number)
        return count

    def _note_flushed(self, number: int) -> None:
        if not self._lease.note_flushed(number):
            raise LeaseLost("another scheduler is the active one")
        self.flush_marks.noted(number)
