"""The longest script: how long one script occupies the server, for all sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import events
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.processes import clear
from microbatch.broker.inspect.tally import take_tally
from microbatch.broker.lua import scripts
from microbatch.broker.lua.scripts import Script
from microbatch.broker.policy.bounds import MAX_SIZE
from microbatch.broker.transport.request import Request
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import ClaimedBatch, halves_of, new_batch
from microbatch.broker.wire.outcome import Outcome

NAME = "longest-script"
TITLE = "the longest that one script holds the server, with the largest batches that there may be"
FIGURE = "ms"
SMALL, LARGE = f"{MAX_SIZE:,} events of 150 bytes a batch", "1,000 events of 900 kB a batch"
CLAIMS = tuple(Claim(FIGURE, of, 50.0, at_most=True, what=of) for of in (SMALL, LARGE))
_LARGE_BYTES = 900_000
_LARGE_WAITING = 100
_SMALL_LEAST = 10 * MAX_SIZE
_REPEATS = 3
_BATCHES = 10_000
_NAMES = {script.text: script.name for script in vars(scripts).values() if isinstance(script, Script)}
MULTIPLY = """
local raws = redis.call('LRANGE', KEYS[1], 0, 999)
for _ = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], unpack(raws)) end
"""


def systems(scale: Scale, stack: ExitStack) -> Iterator[System]:
    small = _Scripts(stack, [events.encode(event) for event in events.KINDS], _SMALL_LEAST)
    yield System(SMALL, small.measure, first=scale.backlog)
    large = _Scripts(stack, [b'"%s"' % (b"x" * (_LARGE_BYTES - 2))], _LARGE_WAITING)
    yield System(LARGE, large.measure, first=_LARGE_WAITING)


class _Scripts:
    """A batcher on its own server, for whose events every script of a batch's life is run."""

    def __init__(self, stack: ExitStack, bodies: list[bytes], least: int) -> None:
        self._least = least
        self._ours = Ours(stack, max_size=MAX_SIZE, keep_dead_max=1)
        self._client: Any = self._ours.server.admin
        self._broker = self._ours.broker
        self._raws = [encode_event(body, 1) for body in bodies]
        self._took: dict[str, float] = {}
        self._perform = self._broker.server._perform  # noqa: SLF001 - what goes through here is noted
        self._broker.server._perform = self._perform_and_note  # type: ignore[method-assign]  # noqa: SLF001

    def measure(self, waiting: int) -> Figures:
        """The longest time of each script while ``waiting`` events wait; the least of some repeats."""
        clear(self._client)
        found: dict[str, float] = {}
        for _ in range(_REPEATS):
            self._fill(max(waiting, self._least))
            self._took = {}
            self._repeat()
            for name, milliseconds in self._took.items():
                found[name] = min(milliseconds, found.get(name, milliseconds))
        clear(self._client)
        return {FIGURE: max(found.values()), **{f"{name} ms": value for name, value in found.items()}}

    def _fill(self, waiting: int) -> None:
        """Make at least ``count`` events wait."""
        events_key = self._broker.keys.events
        while (there := self._broker.events.waiting()) < waiting:
            if there < 1_000:
                self._client.rpush(events_key, *self._raws)
            else:
                self._client.eval(MULTIPLY, 1, events_key, min(100, -(-(waiting - there) // 1_000)))

    def _repeat(self) -> None:
        """Run each script once: cut batches are committed, divided, buried, replayed or purged."""
        dead, ledger = self._broker.dead, self._broker.ledger
        assert ledger.commit(self._cut_and_claim().id)
        whole = self._cut_and_claim()
        assert ledger.divide(whole.id, whole.run, halves_of(whole, whole.run, due_ms=1))
        self._client.zremrangebyrank(self._broker.keys.inflight, 0, -1)
        for act in (dead.replay, dead.purge):
            batch = self._cut_and_claim()
            self._bury(batch)
            act(batch.id)
        for _ in range(2):
            self._bury(self._cut_and_claim())
        assert dead.retire(before_ms=None, kept=1, limit=100)[1]
        self._client.delete(self._broker.keys.dead)
        self._client.zadd(self._broker.keys.dead, dict(zip(map(str, count()), range(_BATCHES), strict=False)))
        assert take_tally(self._broker.server, self._broker.keys) is not None
        self._client.delete(self._broker.keys.dead)

    def _cut_and_claim(self) -> ClaimedBatch:
        lease = self._broker.lease()
        self._client.delete(self._broker.keys.lease)
        assert lease.acquire()
        batch = new_batch(Header(Trigger.SIZE, MAX_SIZE, 1))
        with self._noted("cut"), lease.fence() as fence:
            fence.cut([batch], (), due_ms=1)
        claimed = self._broker.ledger.claim(batch.id, owner="me", now_ms=1, due_ms=10**13)
        assert claimed is not None
        return claimed

    def _bury(self, batch: ClaimedBatch) -> None:
        failure = Failure("ValueError: no", "", 1)
        entry = Outcome(batch.id, batch.header, 1, 1, failure=failure).encode()
        assert self._broker.ledger.bury(batch.id, batch.run, failure, Ending(entry), now_ms=1)

    def _perform_and_note(self, request: Request[Any]) -> Any:
        with ExitStack() as noted:
            for _, text, *_operands in (request.calls or {}).values():
                noted.enter_context(self._noted(_NAMES[str(text)]))
            return self._perform(request)

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note how long the block occupies the server's script thread, if that is the longest so far.

        This is CPU time: the time that the server loses to other processes of the machine does not count.
        """
        before = self._cpu_ms()
        yield
        self._took[name] = max(self._cpu_ms() - before, self._took.get(name, 0.0))

    def _cpu_ms(self) -> float:
        pid = self._ours.server.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6
