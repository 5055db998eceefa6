"""The cutter: puts waiting events into batches and enqueues their jobs, fenced by the lease.

Only the active scheduler does either. One that has lost the lease changes nothing, however late it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis import WatchError

from microbatch.broker.errors import LeaseLost
from microbatch.broker.lua import scripts
from microbatch.broker.policy.bounds import MAX_BYTES
from microbatch.broker.state.due import queued
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake_listener import LeaseWatch
from microbatch.broker.transport.request import Command, Replies, Value
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.transaction import FencedTransaction, Transaction
from microbatch.broker.wire.in_flight import DueBatch, Made, NewBatch
from microbatch.broker.wire.run_record import RunRecord


class Cutter:
    """What an active scheduler does to the batches of one batcher."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def cut(
        self,
        choose: Callable[[int], Sequence[NewBatch]],
        *,
        due_ms: int,
        token: str,
        lease_ttl_ms: int,
        enqueue: Callable[[Transaction, Sequence[NewBatch]], None],
        look: LeaseWatch | None = None,
        max_bytes: int = MAX_BYTES,
        event_bytes: int = 0,
    ) -> Made:
        """Cut batches and enqueue their jobs in one transaction, fenced by the lease and prolonging it.

        ``choose`` is given how many events wait, and says which batches are to be made of them; if none,
        nothing is done. A ``look`` saves a round trip; if the lease was prolonged since, there is a new one,
        and ``choose`` is asked again. A batch takes events up to ``max_bytes``, and no batch is begun that is
        likely to make it more than ``MAX_BYTES`` in all. So the last batches may not be made, and then their
        jobs are for nothing. ``event_bytes`` is the likely size of an event, 0 if it is not known.

        Raises:
            LeaseLost: ``token`` is not the active scheduler's; nothing was done.
            InDoubt: the reply was lost, or the lease changed hands meanwhile; read the state again.
            Unavailable, Refused: nothing was cut.
        """

        def cut(transaction: FencedTransaction, waiting: int) -> Made:
            batches = choose(waiting)
            if not batches:
                return Made([])
            self._add_cut(transaction.commands, batches, [queued(due_ms), max_bytes, MAX_BYTES, event_bytes])
            transaction.commands.pexpire(self._keys.lease, lease_ttl_ms)
            enqueue(transaction.commands, batches)
            moved, *sizes = (int(number) for number in transaction.execute()[0])
            return Made([size for size in sizes if size], moved)

        if look is not None and look.holder == token.encode():
            with self._server.fenced(look.connection) as transaction:
                try:
                    return cut(transaction, look.waiting)
                except WatchError:  # the server has said so: nothing was done
                    pass
        with self._server.fenced() as transaction:
            (waiting,) = self._fence(transaction, token, ("LLEN", self._keys.events))
            return cut(transaction, int(waiting))

    def _add_cut(self, pipe: Transaction, batches: Sequence[NewBatch], args: list[Value]) -> None:
        keys = self._keys
        for batch in batches:
            args += (batch.id, batch.header.encode(), RunRecord().encode(), batch.header.size)
        names = [keys.events, keys.inflight, keys.stats, keys.progress]
        names += [keys.batch(batch.id) for batch in batches]
        pipe.eval(scripts.CUT.text, len(names), *names, *args)

    def enqueue_again(
        self,
        batches: Sequence[DueBatch],
        *,
        due_ms: int,
        token: str,
        lease_ttl_ms: int,
        enqueue: Callable[[Transaction, Sequence[DueBatch]], None],
    ) -> list[DueBatch]:
        """Enqueue new jobs for batches that have none alive; their owners lose them.

        All in one transaction, fenced by the lease and prolonging it. A batch that has changed hands or is
        done meanwhile stays as it is: its job finds nothing to do. Returns the others. Each gets the run
        record that it is to have ``then``. Raises as `cut` does.
        """
        keys = self._keys
        with self._server.fenced() as transaction:
            self._fence(transaction, token)
            pipe = transaction.commands
            for batch in batches:
                names = (keys.batch(batch.id), keys.inflight)
                change = (batch.id, batch.run.encode(), batch.then.encode(), queued(due_ms))
                pipe.eval(scripts.SWAP_RUN.text, 2, *names, *change)
            pipe.pexpire(keys.lease, lease_ttl_ms)
            enqueue(pipe, batches)
            held = transaction.execute()[: len(batches)]
        return [batch for batch, done in zip(batches, held, strict=True) if done]

    def _fence(self, transaction: FencedTransaction, token: str, *others: Command) -> Replies:
        """Have the transaction fail if the lease changes hands. Returns the replies to the others.

        Raises LeaseLost if it already has.
        """
        holder, *replies = transaction.look(self._keys.lease, ("GET", self._keys.lease), *others)
        if holder != token.encode():
            raise LeaseLost("another scheduler is the active one")
        return replies
