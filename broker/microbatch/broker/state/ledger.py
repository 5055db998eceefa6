"""The ledger: what is in flight, and every change of a batch's state.

    waiting ──cut──▶ in flight ──commit──▶ done
                        │  ▲
                  retry └──┘ … ──bury──▶ dead

Each change is one script (see ``lua/``), so it happens completely or not at all. Each is guarded: if two
processes make the same change, the second changes nothing. The cut is in `fence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from microbatch.broker.errors import DecodeError
from microbatch.broker.lua import scripts
from microbatch.broker.state.due import retrying, running
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, Value, call, command, only
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire import identity
from microbatch.broker.wire.ending import PLAIN_END, Ending
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch, Next, Part
from microbatch.broker.wire.run_record import RunRecord


class Ledger(Verbs[S_co]):
    """The batches of one batcher.

    ``keeps_outcomes`` says whether outcomes are added to the results stream.
    """

    def __init__(self, server: S_co, keys: Keys, *, keeps_outcomes: bool = True) -> None:
        super().__init__(server)
        self._keys = keys
        self._keeps_outcomes = keeps_outcomes

    @verb
    def claim(self, batch_id: str, *, owner: str, now_ms: int, due_ms: int) -> Request[ClaimedBatch | None]:
        """Claim a batch for one run until ``due_ms``, and read it.

        Returns None if there is nothing to run: the batch is committed or dead, or its owner is alive.
        Raises DecodeError if the batch is not one of this version.
        """
        keys = self._keys
        names = (keys.batch(batch_id), keys.inflight)
        args = (batch_id, owner, running(now_ms), running(due_ms))
        return call(scripts.CLAIM, names, args).then(
            lambda reply: None if isinstance(reply, bytes) else ClaimedBatch.decode(batch_id, reply)
        )

    @verb
    def claim_next(self, jobs: str, others: str, claim: Claim) -> Request[Next]:
        """Claim the batch whose job is the first in the list ``jobs``, and read it.

        ``others`` receives the id of a job without a batch to run.
        """
        args = (self._keys.batch(""), claim.owner, running(claim.now_ms), running(claim.due_ms))
        return call(scripts.CLAIM_NEXT, (jobs, others, self._keys.inflight), args, _next)

    @verb
    def retry(self, batch: ClaimedBatch, then: RunRecord, *, due_ms: int) -> Request[bool]:
        """Delay a batch until ``due_ms``, when it is enqueued again. ``then`` is its new run record.

        False if the batch is no longer the owner's.
        """
        keys = self._keys
        names = (keys.batch(batch.id), keys.inflight, keys.progress, keys.held, keys.wake)
        args = (batch.id, batch.run.encode(), then.encode(), retrying(due_ms))
        return call(scripts.RETRY, names, args).then(bool)

    @verb
    def commit(self, batch_id: str, ending: Ending = PLAIN_END) -> Request[bool]:
        """Record that a batch is done. False if it is no longer in flight, and nothing has changed."""
        entry = self._kept(ending.entry)
        names, replies = self._replies(ending)
        args = (batch_id, ending.expired, len(entry), *entry, *replies)
        return call(scripts.COMMIT, (*self._ending(batch_id), *names), args, _truth)

    @verb
    def bury(
        self, batch_id: str, run: RunRecord, failure: Failure, ending: Ending, *, now_ms: int
    ) -> Request[bool]:
        """Bury a batch; its events are kept. False if its run record is no longer ``run``.

        If the reply was lost, the call may be repeated with the same arguments. True if either call did it.
        """
        keys = self._keys
        ledger = (keys.batch(batch_id), keys.inflight, keys.dead)
        entry = self._kept(ending.entry)
        streams, replies = self._replies(ending)
        names = (*ledger, keys.results, keys.stats, keys.progress, keys.held, keys.wake, *streams)
        args = (batch_id, run.encode(), failure.encode(), now_ms, len(entry), *entry, *replies)
        return call(scripts.BURY, names, args).then(bool)

    @verb
    def divide(
        self, batch_id: str, run: RunRecord, parts: Sequence[Part], ending: Ending = PLAIN_END
    ) -> Request[bool]:
        """Replace a batch by parts of it. Events that are in no part are done, with that ``ending``.

        False if its run record is no longer ``run``, and nothing has changed.
        """
        keys = self._keys
        entry = self._kept(ending.entry)
        streams, replies = self._replies(ending)
        args: list[Value] = [batch_id, run.encode(), ending.expired, len(entry), len(parts), *entry]
        for part in parts:
            runs = part.runs()
            args += (part.id, part.header.encode(), part.run.encode(), retrying(part.due_ms), len(runs))
            args += chain.from_iterable(runs)
        names = (*self._ending(batch_id), *(keys.batch(part.id) for part in parts), *streams)
        return call(scripts.DIVIDE, names, [*args, *replies]).then(bool)

    def _ending(self, batch_id: str) -> tuple[str, ...]:
        """The keys of a script that ends a batch and may add an entry to the stream."""
        keys = self._keys
        ledger = (keys.batch(batch_id), keys.inflight, keys.results, keys.stats)
        return (*ledger, keys.progress, keys.held, keys.wake)

    def _replies(self, ending: Ending) -> tuple[list[str], list[Value]]:
        """The streams that get replies, and a script's arguments for them."""
        names: list[str] = []
        args: list[Value] = []
        for client, pairs in ending.replies.entries() if ending.replies else ():
            names.append(self._keys.reply(client))
            args += (len(pairs), *pairs)
        return names, args

    def _kept(self, entry: Sequence[Value]) -> Sequence[Value]:
        return entry if self._keeps_outcomes else ()

    @verb
    def in_flight(self) -> Request[list[str]]:
        """The ids of all batches in flight."""
        return command("ZRANGE", self._keys.inflight, 0, -1).then(_batch_ids)

    @verb
    def first_in_flight(self, batch_ids: Sequence[str]) -> Request[str | None]:
        """The first of these batches that is still in flight, or None."""
        return command("ZMSCORE", self._keys.inflight, *batch_ids).then(
            lambda scores: next((i for i, score in zip(batch_ids, scores, strict=True) if score), None)
        )


def _batch_ids(reply: Replies) -> list[str]:
    return [text for raw in reply if identity.is_batch_id(text := raw.decode("latin-1"))]


def _truth(replies: Replies) -> bool:
    return bool(only(replies))


def _next(replies: Replies) -> Next:
    """The batch that was claimed; or the id of a job without a batch to run; or None if there is no job."""
    reply = only(replies)
    if reply is None or len(reply) == 1:
        return None if reply is None else bytes(reply[0])
    raw_id, values = reply
    batch_id = raw_id.decode("latin-1")
    try:
        return ClaimedBatch.decode(batch_id, values) if identity.is_batch_id(batch_id) else bytes(raw_id)
    except DecodeError:
        return bytes(raw_id)
