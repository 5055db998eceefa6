"""Mutants: the library with one protection removed in a run's processes. The checker must notice each."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.backoff import ConstantBackoff
from redis.retry import Retry

from microbatch.broker.errors import InDoubt
from microbatch.broker.lua import scripts
from microbatch.broker.policy import verdict
from microbatch.broker.policy.policy import Policy
from microbatch.broker.policy.verdict import Verdict
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.progress import Progress
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.broker.state.results import Entry, Results
from microbatch.broker.transport import connection
from microbatch.broker.transport.request import Command, Replies, Request, Steps, command
from microbatch.broker.transport.round_trip import round_trip
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.transaction import FencedTransaction
from microbatch.broker.transport.verb import verb
from microbatch.broker.wire.in_flight import DueBatch
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer.handlers import Handlers
from microbatch.scheduler import burial
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.queue import JobQueue
from microbatch.worker import failure_recorder


def retry_connections() -> None:
    """Send every command without a reply again, in redis-py and in our own code."""

    def retry(_backoff: Any, _retries: int) -> Retry:
        return Retry(ConstantBackoff(0.05), 3)

    def perform_again(self: Server, request: Request[Any]) -> Any:
        try:
            return perform(self, request)
        except InDoubt:
            return self._perform(request)

    vars(connection)["Retry"] = retry
    perform, Server._perform = Server._perform, perform_again  # type: ignore[method-assign]


def commit_without_check() -> None:
    """Commit a batch without looking whether it is still in flight."""
    checks = ("if redis.call('EXISTS', batch)", "if not redis.call('ZSCORE', inflight")
    lines = scripts.COMMIT.text.splitlines()
    kept = [line for line in lines if not line.startswith(checks)]
    assert len(lines) - len(kept) == len(checks), "the commit checks otherwise than this mutant knows"
    scripts.COMMIT = replace(scripts.COMMIT, text="\n".join(kept))


def acknowledge_before_handler() -> None:
    """Remove a result from the stream before its handler is called."""
    call_for = Handlers.call_for

    def too_early(self: Handlers, entry: Entry, results: Results) -> Steps[Any]:
        yield from results.acknowledge.asked([entry.id])
        return (yield from call_for(self, entry, results))

    Handlers.call_for = too_early  # type: ignore[method-assign, assignment]


def pop_outside_script() -> None:
    """Pop the events with a separate command, before the transaction that makes batches."""

    execute = FencedTransaction.execute

    def pop_first(self: FencedTransaction, *several: Command) -> Replies | None:
        _, text, _, events, *_ = several[0]
        if text != scripts.CUT.text:
            return execute(self, *several)
        connection = self._pool.get_connection()
        popped = round_trip(connection, command("LPOP", events, 1_000_000)) or []
        self._pool.release(connection)
        put_back = [("LPUSH", events, *reversed(popped))] if popped else []
        done = execute(self, *put_back, *several)
        return None if done is None else done[len(put_back) :]

    FencedTransaction.execute = pop_first  # type: ignore[method-assign]


def open_progress_late() -> None:
    """Look for the end first, and open the progress stream only afterwards."""
    open_progress, wait = Progress.open, Progress.wait

    def open_later(_self: Progress) -> Steps[None]:
        """Not yet."""
        yield from ()

    def open_and_wait(self: Progress, wait_ms: int) -> Steps[bool]:
        time.sleep(0.02)  # as on a busy machine
        yield from open_progress.ask(self)
        return (yield from wait.ask(self, wait_ms))

    Progress.open = verb(open_later)  # type: ignore[method-assign]
    Progress.wait = verb(open_and_wait)  # type: ignore[method-assign]


def requeue_at_tail() -> None:
    """Put the new job of a batch that has lost its worker at the tail of the queue."""
    to_enqueue_again = JobQueue.to_enqueue_again

    def at_the_tail(self: JobQueue, batches: Sequence[DueBatch], *, at_front: bool) -> list[Command]:
        return to_enqueue_again(self, batches, at_front=at_front and not batches)

    JobQueue.to_enqueue_again = at_the_tail  # type: ignore[method-assign]


def cut_without_bound() -> None:
    """Cut all waiting events, however many batches have a job."""
    room_for_cuts = Gates.room_for_cuts

    def much_room(self: Gates, seen: int | None = None) -> int:
        return room_for_cuts(self, seen) if self.is_open else 1000

    Gates.room_for_cuts = much_room  # type: ignore[method-assign]


def charge_claims() -> None:
    """Count a failure when a batch is claimed, and not when its run has failed."""
    for name in ("CLAIM", "CLAIM_NEXT"):
        script = vars(scripts)[name]
        charged = "(string.gsub(history, '^(%d+) (%d+)', function(r, f) return r .. ' ' .. f + 1 end))"
        text = script.text.replace("history .. ' ' .. owner", f"{charged} .. ' ' .. owner")
        assert text != script.text, f"{script.name} claims otherwise than this mutant knows"
        vars(scripts)[name] = replace(script, text=text)
    failed, judge_run, judge_loss = RunRecord.failed, verdict.judge, verdict.judge_death

    def given_back(run: RunRecord) -> RunRecord:
        return replace(run, failures=max(run.failures - 1, 0))

    def fail(self: RunRecord, *args: Any, **facts: Any) -> RunRecord:
        return failed(given_back(self), *args, **facts)

    def judge(run: RunRecord, *args: Any) -> Verdict:
        return judge_run(given_back(run), *args)

    def judge_death(run: RunRecord, size: int, policy: Policy) -> Verdict:
        spent = run.failures > policy.max_retries
        return verdict.isolate(size, policy) if spent else judge_loss(run, size, policy)

    RunRecord.failed = fail  # type: ignore[method-assign]
    vars(failure_recorder)["judge"], vars(burial)["judge_death"] = judge, judge_death


def reuse_reply_stream() -> None:
    """Give a client that starts again the reply stream of the one before it. Its numbers begin at 1 again."""
    begin = ReplyStream.__init__

    def begin_as_before(self: ReplyStream[Any], server: Any, keys: Keys, *args: Any) -> None:
        begin(self, server, keys, *args)
        self.client = hashlib.sha256(os.environ["CHAOS_WHO"].encode()).hexdigest()[:16]
        self._key = keys.reply(self.client)

    ReplyStream.__init__ = begin_as_before  # type: ignore[method-assign, assignment]


MUTANTS = {
    "retrying-connections": retry_connections,
    "commit-without-check": commit_without_check,
    "ack-before-handler": acknowledge_before_handler,
    "destructive-outside-script": pop_outside_script,
    "progress-after-read": open_progress_late,
    "requeue-at-tail": requeue_at_tail,
    "unbounded-in-flight": cut_without_bound,
    "charged-claim": charge_claims,
    "reused-reply-stream": reuse_reply_stream,
}


@functools.cache  # a pool's worker is a fork of a process that has done it
def apply(name: str) -> None:
    """Remove the protection of this name. An empty name removes none."""
    if name:
        MUTANTS[name]()
