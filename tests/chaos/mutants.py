"""Mutants: the library with one protection taken out, in a run's processes, to see that the checker bites."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.backoff import ConstantBackoff
from redis.retry import Retry

from microbatch.broker import connection, scripts, server
from microbatch.broker.bounds import MAX_BYTES
from microbatch.broker.doorbell import Look
from microbatch.broker.errors import InDoubt
from microbatch.broker.in_flight import Made, NewBatch
from microbatch.broker.ledger import Ledger
from microbatch.broker.results import Entry, Results
from microbatch.broker.run_record import RunRecord
from microbatch.broker.scripts import Script
from microbatch.broker.sent import Sent
from microbatch.producer.handlers import Handlers


def retry_connections() -> None:
    """Have what got no reply sent again, by redis-py and by ourselves."""

    def retry(_backoff: Any, _retries: int) -> Retry:
        return Retry(ConstantBackoff(0.05), 3)

    class SentAgain(Sent):
        def __init__(self, *what: Any) -> None:
            super().__init__(*what)
            self._what = what

        def reply(self) -> Any:
            try:
                return super().reply()
            except InDoubt:
                return SentAgain(*self._what).reply()

    vars(connection)["Retry"] = retry
    vars(server)["Sent"] = SentAgain


def commit_without_check() -> None:
    """Commit a batch without looking whether it is still in flight."""
    checks = ("if redis.call('EXISTS', KEYS[1])", "if not redis.call('ZSCORE', KEYS[2]")
    lines = scripts.COMMIT.text.splitlines()
    kept = [line for line in lines if not line.startswith(checks)]
    assert len(lines) - len(kept) == len(checks), "the commit checks otherwise than this mutant knows"
    text = "\n".join(kept)
    scripts.COMMIT = Script("commit", text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324


def acknowledge_before_handler() -> None:
    """Take a result from the stream before its handler is called."""
    handle = Handlers.handle

    def call_late(self: Handlers, entry: Entry, results: Results) -> None:
        results.handled([entry.id])
        handle(self, entry, results)

    Handlers.handle = call_late  # type: ignore[method-assign]


def pop_outside_script() -> None:
    """Take the events from the list by a command of its own, before the transaction that makes batches."""

    def cut(
        self: Ledger,
        choose: Callable[[int], Sequence[NewBatch]],
        *,
        due_ms: int,
        token: str,
        lease_ttl_ms: int,
        enqueue: Callable[[Any, Sequence[NewBatch]], None],
        look: Look | None = None,
        max_bytes: int = MAX_BYTES,
        event_bytes: int = 0,
    ) -> Made:
        keys = self._keys
        batches = choose(self._server.do("LLEN", keys.events))
        if not batches:
            return Made([])
        count = sum(batch.header.size for batch in batches)
        popped = self._server.do("LPOP", keys.events, count) or []
        args: list[Any] = [due_ms, max_bytes, MAX_BYTES, 0]
        for batch in batches:
            args += (batch.id, batch.header.encode(), RunRecord().encode(), batch.header.size)
        names = [keys.events, keys.inflight, keys.stats, keys.drain, *(keys.batch(b.id) for b in batches)]
        with self._server.fenced() as transaction:
            self._fence(transaction, token)
            pipe = transaction.commands
            pipe.lpush(keys.events, *reversed(popped))
            pipe.eval(scripts.CUT.text, len(names), *names, *args)
            pipe.pexpire(keys.lease, lease_ttl_ms)
            enqueue(pipe, batches)
            return Made([int(size) for size in transaction.execute()[1][1:]])

    Ledger.cut = cut  # type: ignore[method-assign]


MUTANTS = {
    "retrying-connections": retry_connections,
    "commit-without-check": commit_without_check,
    "ack-before-handler": acknowledge_before_handler,
    "destructive-outside-script": pop_outside_script,
}


def apply(name: str) -> None:
    """Take out the protection of this name; none for an empty one."""
    if name:
        MUTANTS[name]()
