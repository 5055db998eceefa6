"""Recovery: finds batches in the ledger that nobody works on.

`due` explains the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microbatch.broker.errors import DecodeError
from microbatch.broker.lua import scripts
from microbatch.broker.policy.health import Health
from microbatch.broker.state.breaker import health_of
from microbatch.broker.state.due import BAND_MS, WITH_A_JOB, due_ms, queued, retrying, running
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Request, Value, call, command, commands, good, together
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire import identity
from microbatch.broker.wire.in_flight import DueBatch, Unreadable
from microbatch.broker.wire.text import printable

_HELD_MS = 60_000


@dataclass(frozen=True, slots=True)
class Survey:
    """What the scheduler must look at, and the health of the batcher, at one moment."""

    silent: list[DueBatch]
    """Batches whose workers have not shown themselves in time."""
    retries: list[DueBatch]
    """Batches whose retry is due. They get a new job."""
    queued: list[DueBatch]
    """Batches that have had a job for long. The job may be lost."""
    unreadable: list[Unreadable]
    with_a_job: int
    """How many batches are queued or running."""
    queued_now: int
    """How many of them are queued."""
    retries_due: int
    """How many retries are due, including those that were not looked at."""
    next_retry_ms: int | None
    """When the first batch that waits for a retry is due; None if none waits."""
    health: Health


class Recovery(Verbs[S_co]):
    """Looks after the batches in flight of one batcher."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def survey(self, now_ms: int, *, retries: int, others: int) -> Request[Survey]:
        """Look at what is due, the oldest first, in one round trip.

        Looks at up to ``retries`` batches that wait for a retry, and at up to ``others`` of each other kind.
        """
        keys = self._keys
        args: list[Value] = [keys.batch("")]
        args += ["-inf", running(now_ms), others]
        args += [retrying(0), retrying(now_ms), max(retries, 0)]
        args += [queued(0), queued(now_ms), others]
        counts = commands(
            ("ZCOUNT", keys.inflight, *WITH_A_JOB),
            ("ZCOUNT", keys.inflight, queued(0), f"({BAND_MS}"),
            ("ZCOUNT", keys.inflight, retrying(0), retrying(now_ms)),
            ("ZRANGE", keys.inflight, retrying(0), "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
            ("HGETALL", keys.breaker),
            ("ZCARD", keys.failing),
            ("HGET", keys.stats, "done_events"),
        )
        return together(call(scripts.DUE, [keys.inflight], args), counts).then(_survey)

    @verb
    def first_retry(self) -> Request[DueBatch | None]:
        """The batch whose retry is due first, whether it is due yet or not."""
        args = (self._keys.batch(""), retrying(0), "+inf", 1)
        return call(scripts.DUE, [self._keys.inflight], args).then(
            lambda found: next(iter(_decode(found[0], [])), None)
        )

    @verb
    def has_a_job(self, batch_id: str) -> Request[bool]:
        """Whether a batch is queued or running."""
        return command("ZSCORE", self._keys.inflight, batch_id).then(
            lambda score: score is not None and float(score) < BAND_MS
        )

    @verb
    def room(self, most: int, enough: int) -> Request[int]:
        """How many batches may get a job if at most ``most`` may have one.

        If there is no room, the scheduler is woken (`Wake.ROOM`) when ``enough`` or fewer have one.
        """
        names = (self._keys.inflight, self._keys.held)
        return call(scripts.HOLD_BACK, names, (most, enough, _HELD_MS)).then(int)

    @verb
    def clamp(
        self, now_ms: int, *, soon_ms: int, retry_ms: int, asked_ms: int, limit: int
    ) -> Request[list[str]]:
        """Bring due times nearer that are implausibly far ahead because the server's clock was set back.

        A batch that is queued or running should be due within ``soon_ms``. A retry should be due within
        ``retry_ms``, or within ``asked_ms`` if its processor asked for the time. What is due later than that
        by more than ``soon_ms`` is made due in ``soon_ms``, and a retry in ``retry_ms``. Nothing else about
        it changes: a worker that runs it goes on.

        Looks at up to ``limit`` batches of each kind. Returns the ids of those that were brought nearer.
        """
        args: list[Value] = [self._keys.batch(""), limit, retrying(now_ms + asked_ms + soon_ms)]
        soon, late = now_ms + soon_ms, now_ms + 2 * soon_ms
        args += [running(late), "(0", running(soon)]
        args += [queued(late), f"({BAND_MS}", queued(soon)]
        args += [retrying(now_ms + retry_ms + soon_ms), "+inf", retrying(now_ms + retry_ms)]
        return call(scripts.CLAMP, [self._keys.inflight], args).then(
            lambda ids: [printable(raw) for raw in ids]
        )

    @verb
    def reschedule(self, due_ms: Mapping[str, int]) -> Request[object]:
        """Set when the jobs of these batches are looked for. Those that wait for no worker are unchanged."""
        args = [item for batch_id, due in due_ms.items() for item in (queued(due), batch_id)]
        return call(scripts.RESCHEDULE, [self._keys.inflight], args)

    @verb
    def events(self, batch: DueBatch, *, first_only: bool = False) -> Request[list[bytes]]:
        """The batch's events as they are stored, or only the first; none if the batch is gone."""
        key = self._keys.batch(batch.id)
        if first_only:
            return command("LINDEX", key, 2).then(lambda first: [] if first is None else [first])
        return command("LRANGE", key, 2, -1)

    @verb
    def quarantine(self, batch_id: str | bytes, record: bytes) -> Request[str]:
        """Quarantine a ledger entry that is not a batch, whatever its id is.

        ``record`` is the value in the run record's place when it was read. The entry leaves the ledgers, and
        its key is renamed to the key that is returned, which did not exist before. Returns an empty text if
        the entry is gone, or has changed since.
        """
        keys = self._keys
        raw = batch_id.encode() if isinstance(batch_id, str) else batch_id
        name = printable(raw)
        quarantined = keys.quarantine(name), keys.quarantine(f"{name}:{identity.new_id()}")
        names = (keys.batch("").encode() + raw, keys.inflight, keys.dead, *quarantined)
        return call(scripts.QUARANTINE_BATCH, names, (raw, record)).then(
            lambda where: quarantined[where - 1] if where else ""
        )


def _survey(answers: list[Any]) -> Survey:
    found, counts = good(answers)
    unreadable: list[Unreadable] = []
    silent, waiting, lost = (_decode(group, unreadable) for group in found)
    with_a_job, queued_now, retries_due, first, *row = counts
    return Survey(
        silent, waiting, lost, unreadable, int(with_a_job), int(queued_now), int(retries_due),
        due_ms(float(first[1])) if first else None, health_of(row),
    )  # fmt: skip


def _decode(group: Any, unreadable: list[Unreadable]) -> list[DueBatch]:
    found = []
    for raw_id, header, record, length in group:
        try:
            found.append(DueBatch.decode(raw_id, header, record, length))
        except DecodeError:
            unreadable.append(Unreadable(raw_id, record))
    return found
