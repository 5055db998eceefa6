"""The lease: who is the active scheduler.

It is a string with an expiry. Its value is the holder's token. The scheduler that sets it is active until it
expires or is released. The token is random, so a stalled former holder differs from the present one.

If the server's clock is set back, the lease of a dead holder lasts longer by that time. So a standby also
uses its own clock: if the lease's time of expiry stays the same, the lease was not renewed.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from microbatch.broker.errors import LeaseLost
from microbatch.broker.lua import scripts
from microbatch.broker.state.fence import Fence
from microbatch.broker.state.flushes import flush_state
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake_listener import LeaseWatch
from microbatch.broker.transport.request import Replies, Request, Steps, call, command, transaction
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.verb import Verbs, verb
from microbatch.broker.wire.text import printable

_SILENT_TTLS = 3  # for how long a lease may go unrenewed before a standby seizes it
_LOOKS_PER_TTL = 2
_MARK = 4  # characters of a token's random part


@dataclass(frozen=True, slots=True)
class Holder:
    """A scheduler as it is shown to people."""

    host: str
    pid: int
    mark: str = field(default="", compare=False)
    """Distinguishes it from another scheduler with the same name, as in containers that share a host name."""

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


def names(holders: Sequence[Holder]) -> list[str]:
    """How they are shown: each by its host and pid, with its mark if another one has the same."""
    shown = Counter(map(str, holders))
    return [f"{holder} ({holder.mark})" if shown[str(holder)] > 1 else str(holder) for holder in holders]


def new_token() -> str:
    """A new token, which names this process and is unique."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def holder_of(token: str) -> Holder:
    """The scheduler that a token names."""
    host, _, rest = token.partition(":")
    pid, _, mark = rest.partition(":")
    return Holder(host, int(pid) if pid.isdecimal() else 0, mark[:_MARK])


class Lease(Verbs[Server]):
    """One process's side of a batcher's lease."""

    def __init__(self, server: Server, keys: Keys, ttl_ms: int) -> None:
        super().__init__(server)
        self._keys = keys
        self.ttl_ms = ttl_ms
        self.token = new_token()
        self._may_hold = False
        self._seen: tuple[bytes | None, int] = (None, 0)
        self._seen_at = self._look_at = 0.0

    @verb
    def acquire(self) -> Steps[bool]:
        """Become the active scheduler, if nobody is, or if this one still is (a reply may have been lost)."""
        may_hold, self._may_hold = self._may_hold, True
        if (yield from command("SET", self._keys.lease, self.token, "NX", "PX", self.ttl_ms)):
            return True
        self._may_hold = may_hold and (yield from self._renewal())
        return self._may_hold

    @verb
    def renew(self) -> Request[bool]:
        """Stay the active scheduler. False if this one no longer is."""
        return self._renewal()

    def _renewal(self) -> Request[bool]:
        return call(scripts.RENEW_LEASE, [self._keys.lease], (self.token, self.ttl_ms)).then(bool)

    @verb
    def seize(self) -> Steps[Holder | None]:
        """Become the active scheduler in place of one that is gone without having released its lease.

        Call this repeatedly while `acquire` returns False. It measures time by this host's own clock. Returns
        the scheduler that is gone, or None if this one is not active.
        """
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + self.ttl_ms / 1000 / _LOOKS_PER_TTL
        key = self._keys.lease
        token, expires = yield from transaction(("GET", key), ("PEXPIRETIME", key))
        if (token, expires) != self._seen:
            self._seen, self._seen_at = (token, expires), now
        if token is None or now - self._seen_at < _SILENT_TTLS * self.ttl_ms / 1000:
            return None
        self._may_hold = True  # if the reply is lost, the next `acquire` finds out
        seized = yield from call(scripts.SEIZE_LEASE, [key], (token, expires, self.token, self.ttl_ms))
        return holder_of(printable(token)) if seized else None

    @contextmanager
    def fence(self, watch: LeaseWatch | None = None, *, flushes: bool = False) -> Iterator[Fence]:
        """A fence for one change, which is to be made in the block of the ``with``.

        A ``watch`` saves a round trip. If the lease was renewed since it began, the change raises
        LeaseChanged. With ``flushes``, and without a watch, the look asks for the flushes too.

        Raises LeaseLost if this one is not active.
        """
        token, keys = self.token.encode(), self._keys
        if watch is not None and watch.holder == token:
            with self.server.fenced(watch.connection) as transaction:
                yield Fence(transaction, keys, self.ttl_ms, waiting=watch.waiting)
            return
        with self.server.fenced() as transaction:
            more = [("HMGET", keys.flushes, "asked", "done")] if flushes else []
            look = ("GET", keys.lease), ("LLEN", keys.events), *more
            holder, waiting, *numbers = transaction.look(keys.lease, *look)
            if holder != token:
                raise LeaseLost("another scheduler is the active one")
            state = flush_state(numbers[0], waiting) if numbers else None
            yield Fence(transaction, keys, self.ttl_ms, waiting=int(waiting), flushes=state)

    @verb
    def note_flushed(self, number: int) -> Request[bool]:
        """Note that everything recorded before this flush is cut. False if this one is not active."""
        keys = self._keys
        names = (keys.lease, keys.flushes, keys.progress)
        return call(scripts.FLUSHED, names, (self.token, number)).then(bool)

    @verb
    def release(self) -> Request[object]:
        """Release the lease, so that a standby takes over at once. Does nothing if this one is not active."""
        return call(scripts.RELEASE_LEASE, [self._keys.lease], (self.token,))

    @verb
    def announce(self, now_ms: int) -> Request[Replies]:
        """Show that this scheduler is running, active or not. Forget those not seen for ten lease times."""
        key = self._keys.schedulers
        return transaction(
            ("ZADD", key, now_ms, self.token),
            ("ZREMRANGEBYSCORE", key, "-inf", now_ms - 10 * self.ttl_ms),
            ("PEXPIRE", key, 60 * self.ttl_ms),
        )

    @verb
    def deregister(self) -> Request[object]:
        """Remove this scheduler from the running ones."""
        return command("ZREM", self._keys.schedulers, self.token)
