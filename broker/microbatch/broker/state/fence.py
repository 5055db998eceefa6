"""The fence: changes that only the active scheduler makes.

Each is one transaction that is done only while the lease stays as it was, and that prolongs it. A scheduler
that has lost the lease changes nothing, however late it comes.
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
    """One change behind the fence, and what it is decided by.

    Raises, from both changes:
        LeaseChanged: the lease is not as it was seen; nothing was done.
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
        """Where the flushes stand; None if the look did not ask for it."""

    def cut(
        self,
        batches: Sequence[NewBatch],
        jobs: Sequence[Command],
        *,
        due_ms: int,
        max_bytes: int = MAX_BYTES,
        event_bytes: int = 0,
    ) -> Made:
        """Cut batches, and enqueue their ``jobs``. Nothing is sent if there is no batch.

        A batch takes events up to ``max_bytes``, and no batch is begun that is likely to make it more than
        ``MAX_BYTES`` in all. So the last batches may not be made, and then their jobs are for nothing.
        ``event_bytes`` is the likely size of an event, 0 if it is not known.
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
        moved, *sizes = (int(number) for number in self._execute([cut], jobs)[0])
        return Made([size for size in sizes if size], moved)

    def enqueue_again(
        self, batches: Sequence[DueBatch], jobs: Sequence[Command], *, due_ms: int
    ) -> list[DueBatch]:
        """Enqueue new ``jobs`` for batches that have none alive; their owners lose them.

        A batch that has changed hands or is done meanwhile stays as it is: its job finds nothing to do.
        Returns the others. Each gets the run record that it is to have ``then``.
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
