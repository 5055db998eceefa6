"""Claims, found by their owner: for a worker that lost a reply, and for its pool."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.lua import scripts
from microbatch.broker.state.due import queued, running
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.request import Request, call, command
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.in_flight import ClaimedBatch

_LOOK_AGAIN_MS = 8_000
_RUNNING = ("-inf", "(0")  # the band of scores of running batches, which are as many as the workers


@dataclass(frozen=True, slots=True)
class FoundClaim:
    """A batch that a worker has claimed for a run."""

    id: str
    record: bytes
    """Its run record: its history, a space, and the owner."""


@dataclass(frozen=True, slots=True)
class RqPlace:
    """RQ's keys for the job of a batch."""

    queue: str
    job_prefix: str
    """The prefix of a job's key. A job's id is that of its batch."""


class Claims(Verbs[S_co]):
    """The claims to the batches of one batcher. Raises ServerError from every method."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def find(self, owner: str, due_ms: int) -> Request[FoundClaim | None]:
        """The batch that this owner has claimed, or None. ``due_ms`` is the claim's original expiry."""
        args = (self._keys.batch(""), owner, running(due_ms), *_RUNNING)
        return call(scripts.FIND_CLAIM, [self._keys.inflight], args).then(_found)

    @verb
    def read(self, found: FoundClaim) -> Request[ClaimedBatch | None]:
        """The batch with its events; None if its run record is no longer that of the claim.

        Raises DecodeError if it is not a batch of this version.
        """

        def decode(values: list[bytes]) -> ClaimedBatch | None:
            return ClaimedBatch.decode(found.id, values) if values[1:2] == [found.record] else None

        return command("LRANGE", self._keys.batch(found.id), 0, -1).then(decode)

    @verb
    def renew(self, found: FoundClaim, *, due_ms: int) -> Request[bool]:
        """Extend the claim until ``due_ms``. False if the batch is no longer the owner's."""
        names = (self._keys.batch(found.id), self._keys.inflight)
        args = (found.id, found.record, found.record, running(due_ms))
        return call(scripts.SWAP_RUN, names, args).then(bool)

    @verb
    def give_back(self, found: FoundClaim, rq: RqPlace | None, *, due_ms: int) -> Request[bool]:
        """Give a batch back as if it had not been claimed. False if it is no longer the owner's.

        Its job goes to the front of RQ's queue. If there is no job, or ``rq`` is None, the active scheduler
        looks at the batch at ``due_ms``.
        """
        keys = self._keys
        names = [keys.batch(found.id), keys.inflight, keys.wake]
        if rq is not None:
            names += [rq.queue, f"{rq.job_prefix}{found.id}"]
        history, _, _ = found.record.rpartition(b" ")
        args = (
            found.id, found.record, history + b" ", queued(due_ms), Wake.RECONCILE,
            queued(due_ms + _LOOK_AGAIN_MS),
        )  # fmt: skip
        return call(scripts.GIVE_BACK, names, args).then(bool)


def _found(reply: list[bytes] | None) -> FoundClaim | None:
    return None if reply is None else FoundClaim(reply[0].decode("latin-1"), reply[1])


def claim_of(batch: ClaimedBatch) -> FoundClaim:
    """The claim of a batch that was claimed and read."""
    return FoundClaim(batch.id, batch.run.encode().encode())
