"""The breaker: opens when every batch fails, as in an outage, and then cutting is held back.

It looks at the row of failures since a run of the batcher last succeeded. A fault that does not depend on the
contents of a batch (a database that is away, a bug) soon fails batch after batch, and no run succeeds. The
breaker is open from then until the next success. It is Michael Nygard's circuit breaker ("Release It!"), kept
on the server for all workers together.
"""

from __future__ import annotations

from microbatch.broker.lua import scripts
from microbatch.broker.policy.health import Health
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, call, commands, pairs, transaction
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import number, printable

OPENS_AT_BATCHES = 5
"""The breaker opens when this many batches failed and none succeeded. All parts of a batch count once."""
_KEPT_MS = 600_000  # as in the script


class Breaker(Verbs[S_co]):
    """The breaker of one batcher.

    Args:
        server: the server that has the row.
        keys: the batcher's keys.
        opens_after_ms: the breaker also opens when all runs have failed for this long.
    """

    def __init__(self, server: S_co, keys: Keys, *, opens_after_ms: int) -> None:
        super().__init__(server)
        self._keys = keys
        self._opens_after_ms = opens_after_ms

    @verb
    def note_failure(self, root: str, kind: str, *, now_ms: int, probe: bool = False) -> Request[Health]:
        """Note that a run failed, and return the row that it is in.

        Args:
            root: the id of the batch that was cut: the failed one, or the one that it is a part of.
            kind: the error's name. It is shown to people, so it must not contain anything from an event.
            now_ms: the server's time.
            probe: whether the run was a probe: a single event, run to tell an outage from a bad event. A
                failed probe means an outage.
        """
        keys = self._keys
        names = (keys.failing, keys.breaker, keys.stats, keys.wake)
        args = (root, kind, now_ms, int(probe), OPENS_AT_BATCHES, self._opens_after_ms)
        return call(scripts.FAIL, names, args).then(_noted)

    @verb
    def keep(self) -> Request[Replies]:
        """Keep the present row for ten more minutes, even if no failure comes."""
        return commands(*(("PEXPIRE", key, _KEPT_MS) for key in (self._keys.failing, self._keys.breaker)))

    @verb
    def health(self) -> Request[Health]:
        """The present row."""
        keys = self._keys
        asked = ("HGETALL", keys.breaker), ("ZCARD", keys.failing), ("HGET", keys.stats, "done_events")
        return transaction(*asked).then(health_of)


def health_of(replies: Replies) -> Health:
    """The row, from the replies to the commands that read it."""
    row, batches, done = replies
    return Health.of(pairs(row), batches, done)


def _noted(reply: Replies) -> Health:
    done, batches, since_ms, opened_ms, shown = reply
    return Health(number(done), batches, since_ms, opened_ms, printable(shown))
