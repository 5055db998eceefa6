"""The breaker: opens when every batch fails, as in an outage, and holds cutting back.

It looks at the row of failures since a run of the batcher last succeeded. Whatever does not depend on what is
in a batch (a database that is away, a bug) soon fails batch after batch, and no run succeeds. The breaker is
open from then until the next success. It is Michael Nygard's circuit breaker ("Release It!"), kept at the
server for all workers together.
"""

from __future__ import annotations

from microbatch.broker.lua import scripts
from microbatch.broker.policy.health import Health
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, call, commands, pairs, transaction
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import number, printable

OPENS_AT_BATCHES = 5
"""The breaker opens when so many batches, parts of one counted once, failed and none succeeded."""
_KEPT_MS = 600_000  # as in the script


class Breaker(Verbs[S_co]):
    """The breaker of one batcher.

    Args:
        server: where its row is.
        keys: the batcher's.
        opens_after_ms: it opens as well when nothing but failures came for so long.
    """

    def __init__(self, server: S_co, keys: Keys, *, opens_after_ms: int) -> None:
        super().__init__(server)
        self._keys = keys
        self._opens_after_ms = opens_after_ms

    @verb
    def note_failure(self, root: str, kind: str, *, now_ms: int, probe: bool = False) -> Request[Health]:
        """Note that a run failed, and return the row that it is in.

        Args:
            root: the batch that was cut: the failed one, or the one that it is a part of.
            kind: the error's name. It is shown to people, and so never has what is in an event.
            now_ms: the server's time.
            probe: whether the run was of a single event, to tell an outage from a bad event: then it is one.
        """
        keys = self._keys
        names = (keys.failing, keys.breaker, keys.stats, keys.wake)
        args = (root, kind, now_ms, int(probe), OPENS_AT_BATCHES, self._opens_after_ms)
        return call(scripts.FAIL, names, args).then(_noted)

    @verb
    def keep(self) -> Request[Replies]:
        """Keep the present row for ten minutes more, though no failure comes."""
        return commands(*(("PEXPIRE", key, _KEPT_MS) for key in (self._keys.failing, self._keys.breaker)))

    @verb
    def health(self) -> Request[Health]:
        """The present row."""
        keys = self._keys
        asked = ("HGETALL", keys.breaker), ("ZCARD", keys.failing), ("HGET", keys.stats, "done_events")
        return transaction(*asked).then(health_of)


def health_of(replies: Replies) -> Health:
    """The row, from the replies to what is asked for it."""
    row, batches, done = replies
    return Health.of(pairs(row), batches, done)


def _noted(reply: Replies) -> Health:
    done, batches, since_ms, opened_ms, shown = reply
    return Health(number(done), batches, since_ms, opened_ms, printable(shown))
