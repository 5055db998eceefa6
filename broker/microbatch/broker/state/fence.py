"""The fence: changes that only the active scheduler makes.

Each change is one transaction, which the server executes only if the lease is unchanged, and which renews the
lease. A scheduler that has lost the lease changes nothing, however late it continues.
"""

from __future__ import annotations

from collections.abc import Sequence

from microbatch.broker.errors import LeaseChanged
from microbatch.broker.lua import scripts
from microbatch.broker.policy.bounds import MAX_BYTES
from microbatch.broker.state.due import queued
from microbatch.broker.state.flushes import FlushState
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Command, Replies, Value
from microbatch.broker.transport.transaction import FencedTransaction
from microbatch.broker.wire.in_flight import DueBatch, Made, NewBatch
from microbatch.broker.wire.run_record import RunRecord


class Fence:
    """One change behind the fence, and the state that it is decided by.

    Raises, from both changes:
        LeaseChanged: the lease has changed since it was seen; nothing was done.
        InDoubt: the reply was lost; read the state again.
        Unavailable, Refused: nothing was done.
    """

    def __init__(
        self,
        transaction: FencedTransaction,
        keys: Keys,
        ttl_ms: int,
        *,
        waiting: int,
        flushes: FlushState | None = None,
    ) -> None:
        self._transaction = transaction
        self._keys = keys
        self._ttl_ms = ttl_ms
        self.waiting = waiting
        """How many events wait."""
        self.flushes = flushes
        """The state of the flushes; None if the look did not ask for it."""

    def cut(
        self,
        batches: Sequence[NewBatch],
        jobs: Sequence[Command],
        *,
        due_ms: int,
        max_bytes: int = MAX_BYTES,
        event_bytes: int = 0,
        counts_left: bool = False,
    ) -> Made:
        """Cut batches, and enqueue their ``jobs``. Nothing is sent if there is no batch.

        A batch takes events up to ``max_bytes``. No batch is begun that would probably make the transaction
        larger than ``MAX_BYTES``. So the last batches may not be made, and then their jobs have no batch.
        ``event_bytes`` is the likely size of an event; 0 means unknown. With ``counts_left``, the result has
        the number of events that wait afterwards.
        """
        if not batches:
            return Made([])
        keys = self._keys
        args: list[Value] = [queued(due_ms), max_bytes, MAX_BYTES, event_bytes]
        for batch in batches:
            args += (batch.id, batch.header.encode(), RunRecord().encode(), batch.header.size)
        names = [keys.events, keys.inflight, keys.stats, keys.progress]
        names += [keys.batch(batch.id) for batch in batches]
        cut = ("EVAL", scripts.CUT.text, len(names), *names, *args)
        count: list[Command] = [("LLEN", keys.events)] if counts_left else []
        reply, *left = self._execute([cut, *count], jobs)[: 1 + len(count)]
        moved, *sizes = (int(number) for number in reply)
        return Made([size for size in sizes if size], moved, *left)

    def enqueue_again(
        self, batches: Sequence[DueBatch], jobs: Sequence[Command], *, due_ms: int
    ) -> list[DueBatch]:
        """Enqueue new ``jobs`` for batches whose jobs are gone. Their owners lose the batches.

        A batch that was claimed or committed in the meantime is not changed, and its new job finds nothing to
        do. Returns the other batches. Each of them gets the run record in its ``then``.
        """
        keys, swaps = self._keys, list[Command]()
        for batch in batches:
            change = (batch.id, batch.run.encode(), batch.then.encode(), queued(due_ms))
            swaps.append(("EVAL", scripts.SWAP_RUN.text, 2, keys.batch(batch.id), keys.inflight, *change))
        swapped = self._execute(swaps, jobs)[: len(batches)]
        return [batch for batch, done in zip(batches, swapped, strict=True) if done]

    def _execute(self, changes: Sequence[Command], jobs: Sequence[Command]) -> Replies:
        prolong = ("PEXPIRE", self._keys.lease, self._ttl_ms)
        done = self._transaction.execute(*changes, prolong, *jobs)
        if done is None:
            raise LeaseChanged("the lease was renewed or lost since it was seen")
        return done
