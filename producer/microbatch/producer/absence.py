"""Tells a caller that waits for results that there is no scheduler or no worker."""

from __future__ import annotations

import logging
import time

from microbatch.broker.broker import CommonBroker
from microbatch.broker.errors import DecodeError, ServerError
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.transport.request import Steps, command, commands, each
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.run_record import RunRecord

log = logging.getLogger(__name__)

_BATCHES_LOOKED_AT = 1_000
_RUN_RECORD_AT = 1


class AbsenceWatch(Verbs[S_co]):
    """Looks now and then while no result comes, and says once a minute what is missing.

    It uses what a consumer may read: the scheduler's lease, and whether a worker has claimed any batch in
    flight.
    """

    def __init__(self, broker: CommonBroker[S_co]) -> None:
        super().__init__(broker.server)
        self._keys = broker.keys
        self._name = broker.config.name
        self._pause = broker.timing.absence_seconds
        self._log = FailureLog(log)
        self._look_at = time.monotonic() + self._pause
        self._untouched: tuple[bytes, ...] = ()

    def came(self, count: int) -> None:
        """Note that ``count`` results came. If there are any, a scheduler and a worker are there."""
        if count:
            self._look_at = time.monotonic() + self._pause
            self._untouched = ()

    @verb
    def look(self) -> Steps[None]:
        """Look, if it is time. Errors of the server are not raised: this only informs people."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self._pause
        try:
            yield from self._look_for_a_scheduler()
            yield from self._look_for_workers()
        except (ServerError, DecodeError) as error:
            log.debug("%s: can't look for a scheduler and workers: %s", self._name, error)

    def _look_for_a_scheduler(self) -> Steps[None]:
        asked = ("LLEN", self._keys.events), ("GET", self._keys.lease)
        waiting, lease = yield from commands(*asked)
        if waiting and lease is None:
            what = "1 event waits" if waiting == 1 else f"{waiting:,} events wait"
            self._tell("scheduler", f"{what} to be cut, and no scheduler is active")

    def _look_for_workers(self) -> Steps[None]:
        """Warn if no batch in flight was ever claimed, and one of them was in flight at the look before."""
        ids = yield from command("ZRANGE", self._keys.inflight, 0, _BATCHES_LOOKED_AT - 1)
        batches = [self._keys.batch(raw.decode("ascii", "replace")) for raw in ids]
        raws = yield from each(*(("LINDEX", key, _RUN_RECORD_AT) for key in batches))
        untouched = tuple(ids) if all(map(_is_untouched, raws)) else ()
        before, self._untouched = self._untouched, untouched
        if untouched and set(before) & set(untouched):
            what = "1 batch is" if len(ids) == 1 else f"{len(ids):,} batches are"
            self._tell("worker", f"{what} to be run, and no worker claims any")

    def _tell(self, role: str, what: str) -> None:
        self._log.note(logging.WARNING, role, f"{self._name}: {what}: start `microbatch {role}`")


def _is_untouched(raw: object) -> bool:
    """Whether a batch's run record says that no worker has ever claimed it."""
    return isinstance(raw, bytes) and RunRecord.decode(raw) == RunRecord()
