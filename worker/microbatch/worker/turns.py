"""Commits a batch and claims the next one, in one round trip.

    end    commit the batch before  +  finish its job  +  claim the next batch whose job waits

An idle worker also waits for a job and claims its batch in one round trip. A job leaves RQ's queue in the
script that claims its batch, so a job is never between the queue and its worker.

RQ's own worker spends some sixty commands in over twenty round trips on a job. Here a batch whose run
succeeds takes five, and leaves RQ's keys as RQ would leave them. RQ itself executes every other job.

What this module relies on in RQ (3.0), besides the names of RQ's keys, which it is given:

- A queue is a list of job ids, and the first is next. A worker moves it to the end of the queue's
  intermediate list, and removes it from there once it has the job. This worker does the same with a job that
  has no batch to run.
- A job is a hash with the fields ``status``, ``worker_name``, ``started_at``, ``ended_at`` and
  ``last_heartbeat``; a finished one expires when its result does.
- The registry of finished jobs is a sorted set, scored by when each expires (unix seconds).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from microbatch.broker.errors import InDoubt, ServerError
from microbatch.broker.state.claims import RqPlace, claim_of
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.broker.transport.request import command, each, good, together
from microbatch.broker.wire.ending import PLAIN_END
from microbatch.broker.wire.identity import is_batch_id
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch, Next
from microbatch.worker.runner import BatchRunner, Run
from microbatch.worker.telling import tell_claimed, tell_committed


@dataclass(frozen=True, slots=True)
class RqKeys:
    """RQ's names of the keys that a queue's worker uses."""

    queue: str
    intermediate: str
    finished: str
    job_prefix: str
    """The beginning of a job's key."""

    @property
    def rq(self) -> RqPlace:
        """Where a batch's job goes when the batch is given back."""
        return RqPlace(self.queue, self.job_prefix)


class _Try:
    """One try of a commit that claims the next batch in the same round trip."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.is_answered = False
        self.found: Any = None

    def read(self, answers: Sequence[Any]) -> bool:
        self.found, self.is_answered = answers[-1], True
        return _committed(answers)


def _committed(answers: Sequence[Any]) -> bool:
    """The result of the commit, which is the first answer. Raises it if the server refused the commit."""
    return bool(good(answers[:1])[0])


class Turns:
    """Takes one worker's turns at one queue.

    Every method raises ServerError. If a batch may have been claimed then, the next `wait` finds it, or
    `leave` gives it back.
    """

    def __init__(self, runner: BatchRunner, keys: RqKeys, worker: str) -> None:
        self._runner = runner
        self._server = runner.broker.server
        self._commit = runner.broker.ledger.commit
        self._claim_next = runner.broker.ledger.claim_next
        self._claims = runner.broker.claims
        self._shown_seconds = runner.broker.timing.finished_job_seconds
        self._keys = keys
        self._worker = worker
        self._own = f"{keys.intermediate}:{worker}"  # holds an id only from one command to the next
        self._held: ClaimedBatch | None = None  # claimed in the round trip of a commit that was refused

    def wait(self, seconds: float) -> Next:
        """Wait up to ``seconds`` for a job. Returns what to do next; None if no job came."""
        if (batch := self._what_is_claimed()) is not None:
            return batch
        keys, claim = self._keys, self._runner.new_claim()
        move = ("BLMOVE", keys.queue, self._own, "LEFT", "RIGHT", seconds)
        claim_next = self._claim_next.request(self._own, keys.intermediate, claim)
        try:
            _, found = self._server.perform(together(command(*move), claim_next).then(good))
        except InDoubt:
            self._runner.doubts.add(claim)
            raise
        return self._looked_at(found, claim)

    def commit_and_claim_next(self, run: Run, began: float, *, go_on: bool) -> Next:
        """Commit a run that has succeeded, and mark its job as finished.

        ``began`` is when the run began (unix seconds). With ``go_on`` it also claims the next batch, and
        returns what to do next, as `wait` does; None if no job waits.
        """
        keys, job_key, now = self._keys, self._keys.job_prefix + run.batch.id, time.time()
        ended = _moment(now)
        finish = each(
            (
                "HSET", job_key, "status", "finished", "worker_name", self._worker,
                "started_at", _moment(began), "ended_at", ended, "last_heartbeat", ended,
            ),
            ("EXPIRE", job_key, self._shown_seconds, "NX"),  # NX: the batch may be dead meanwhile
            ("ZADD", keys.finished, int(now) + self._shown_seconds, run.batch.id),
        )  # fmt: skip
        ending = run.ending or PLAIN_END
        commit = self._commit.request(run.batch.id, ending)
        tries: list[_Try] = []

        def next_try() -> bool:
            if not go_on or tries:  # the first try may have claimed a batch even if its reply was lost
                return self._server.perform(together(commit, finish).then(_committed))
            tries.append(_Try(self._runner.new_claim()))
            claim_next = self._claim_next.request(keys.queue, keys.intermediate, tries[0].claim)
            return self._server.perform(together(commit, finish, claim_next).then(tries[0].read))

        try:
            if retry_until_answered(self._runner.config.name, next_try):
                tell_committed(self._runner.broker, run.batch, run.batch.header.size - ending.expired)
        except ServerError:
            found = self._next_of(tries)
            self._held = found if isinstance(found, ClaimedBatch) else None
            raise
        return self._next_of(tries)

    def give_back(self, batch: ClaimedBatch, *, seconds: float) -> None:
        """Give back a batch whose run could not be recorded. It is run again in ``seconds``."""
        due_ms = self._runner.broker.clock.now_ms() + int(seconds * 1000)
        self._claims.give_back(claim_of(batch), None, due_ms=due_ms)

    def leave(self) -> None:
        """Give back the batches that this worker has claimed and not run, because it stops."""
        held, self._held = self._held, None
        claimed = [] if held is None else [claim_of(held)]
        for batch in [*claimed, *self._runner.doubts.claimed()]:
            self._claims.give_back(batch, self._keys.rq, due_ms=self._runner.broker.clock.now_ms())

    def _what_is_claimed(self) -> ClaimedBatch | None:
        """A batch that this worker has claimed already, in a turn that failed."""
        held, self._held = self._held, None
        return held if held is not None else self._runner.doubts.next()

    def _next_of(self, tries: Sequence[_Try]) -> Next:
        """What the tries of one commit have claimed. A try whose reply was not read is in doubt."""
        found: Next = None
        for each_try in tries:
            if not each_try.is_answered:
                self._runner.doubts.add(each_try.claim)
            elif not isinstance(each_try.found, Exception):  # if it was refused, `wait` will raise the same
                found = self._looked_at(each_try.found, each_try.claim)
        return found

    def _looked_at(self, found: Next, claim: Claim) -> Next:
        if isinstance(found, bytes) and is_batch_id(found.decode("latin-1")):
            # This job has no batch to run, or its batch was claimed and can't be read.
            self._runner.doubts.clear_up(claim)
        if isinstance(found, ClaimedBatch):
            tell_claimed(self._runner.broker, found, claim)
        else:
            self._runner.run_watch.claimed_nothing()
        return found


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
