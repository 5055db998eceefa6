"""The audit: compares the ledger with the data on the server, without stopping anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError
from microbatch.broker.inspect.quarantine import literal
from microbatch.broker.inspect.repairs import Repairs
from microbatch.broker.inspect.tally import take_tally
from microbatch.broker.state.due import queued, retrying, running
from microbatch.broker.transport.request import commands, each, pairs, transaction
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.identity import is_batch_id
from microbatch.broker.wire.run_record import RunRecord
from microbatch.broker.wire.text import is_number, printable

T = TypeVar("T")

_RAMP_MS = 60_000
_AT_ONCE = 500
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree with the ledger."""

    key: str
    what: str
    repair: Callable[[], str] | None = None
    """Repairs it and returns what was done; None if only a person can repair it."""


class Audit:
    """Checks one batcher, in bounded memory. Only the repair of a finding writes anything.

    ``on_progress`` gets the number of batches of each look. Each batch is looked at twice.
    Every method raises ServerError if the server can't be asked.
    """

    def __init__(self, broker: Broker, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self._on_progress = on_progress
        self._broker = broker
        self._repairs = Repairs(broker)
        self._server = broker.server
        self._keys = broker.keys

    def looks(self) -> int:
        """How many looks at batches the audit needs, by the current size of the ledgers."""
        in_flight, dead = self._server.perform(
            commands(("ZCARD", self._keys.inflight), ("ZCARD", self._keys.dead))
        )
        return 2 * (int(in_flight) + int(dead))

    def findings(self) -> Iterator[Finding]:
        """All findings. The counters come last, because earlier repairs may correct them."""
        yield from self._misfits()
        if self._wrong_types():
            return  # the other checks would fail
        yield from self._batches(self._keys.inflight, RunRecord)
        yield from self._batches(self._keys.dead, Failure)
        yield from self._overdue()
        yield from self._neglect()
        yield from self._strays()
        yield from self._counters()

    def _wrong_types(self) -> dict[str, str]:
        wanted = self._keys.types()
        kinds = [_text(kind) for kind in self._server.perform(commands(*(("TYPE", key) for key in wanted)))]
        return {
            key: f"it is a {kind}, not a {wanted[key]}"
            for key, kind in zip(wanted, kinds, strict=True)
            if kind not in ("none", wanted[key])
        }

    def _misfits(self) -> Iterator[Finding]:
        """Keys of the wrong type. The active scheduler quarantines them on its own."""
        for key, what in self._wrong_types().items():
            yield Finding(key, what)

    def _counters(self) -> Iterator[Finding]:
        keys = self._keys
        fields = pairs(self._server.do("HGETALL", keys.stats))
        if bad := [printable(name) for name, value in fields.items() if not is_number(value)]:
            yield Finding(keys.stats, f"no numbers: {', '.join(bad)}")  # the scheduler quarantines them
            return
        tally = next((found for _ in range(_TRIES) if (found := take_tally(self._server, keys))), None)
        if tally is None:
            yield Finding(
                keys.stats, "not compared: batches changed faster than they could be counted; try again"
            )
            return
        counters = tally.counters
        for unit, cut, accounted in (
            ("events", counters.cut_events, tally.events + counters.events_gone),
            ("batches", counters.cut_batches, tally.batches + counters.batches_gone),
        ):
            if cut != accounted:
                yield Finding(
                    keys.stats,
                    f"{cut} {unit} were cut, but in flight, done and dead make {accounted}",
                    self._repairs.adjust(f"cut_{unit}", accounted - cut),
                )

    def _batches(self, ledger: str, second: type[RunRecord | Failure]) -> Iterator[Finding]:
        """Batches in the ledger that do not exist or can't be read."""
        found: set[bytes] = set()  # a scan may return an id twice
        for page in self._pages(self._server.client.zscan_iter(ledger, count=_AT_ONCE)):
            ids = [raw for raw, _score in page]
            replies = self._server.perform(each(*(("LRANGE", self._batch(raw), 0, 2) for raw in ids)))
            for raw, head in zip(ids, replies, strict=True):
                what = _what_is_wrong(raw, head, second)
                if not what or raw in found or self._server.do("ZSCORE", ledger, raw) is None:
                    continue  # without a score, the batch has just left the ledger
                found.add(raw)
                yield Finding(printable(self._batch(raw)), what, self._repairs.quarantine(raw, head))

    def _pages(self, items: Iterator[T]) -> Iterator[list[T]]:
        """The items of a scan, in pages."""
        while True:
            with self._server.translated():
                page = list(islice(items, _AT_ONCE))
            if not page:
                return
            yield page
            self._on_progress(len(page))

    def _batch(self, raw_id: bytes) -> bytes:
        return self._keys.batch("").encode() + raw_id

    def _overdue(self) -> Iterator[Finding]:
        key = self._keys.inflight
        lease, in_flight = self._server.perform(commands(("GET", self._keys.lease), ("ZCARD", key)))
        before = self._broker.clock.now_ms() - self._broker.timing.overdue_ms
        # A scheduler looks at about a thousand queued batches a second, and starts retries gradually.
        queued_before, retries_before = before, before
        if lease is not None:
            queued_before, retries_before = before - int(in_flight), before - int(in_flight) - _RAMP_MS
        counts = commands(
            ("ZCOUNT", key, "-inf", running(before)),
            ("ZCOUNT", key, queued(0), queued(queued_before)),
            ("ZCOUNT", key, retrying(0), retrying(retries_before)),
            ("ZCOUNT", key, "-inf", f"({retrying(0)}"),
        )
        silent, lost, retries, with_a_job = self._server.perform(counts)
        most = self._broker.published_config().get("max_in_flight", with_a_job + 1)
        is_held_back = self._broker.held_back() or with_a_job >= most
        count = silent + lost + (0 if is_held_back else retries)
        if count:
            yield Finding(
                self._keys.inflight,
                f"{count} batches are due and nobody looks at them: is a scheduler running?",
                self._repairs.wake,
            )

    def _neglect(self) -> Iterator[Finding]:
        if found := self._broker.unhandled.neglect(self._broker.clock.now_ms()):
            yield Finding(self._keys.results, str(found))

    def _strays(self) -> Iterator[Finding]:
        """Batches that are in neither ledger."""
        prefix = self._keys.batch("")
        for page in self._pages(self._server.client.scan_iter(match=literal(prefix) + "*", count=1_000)):
            ids = [key.removeprefix(prefix.encode()) for key in page]
            scores_of = ("ZMSCORE", self._keys.inflight, *ids), ("ZMSCORE", self._keys.dead, *ids)
            in_flight, dead = self._server.perform(commands(*scores_of))
            for raw, *scores in zip(ids, in_flight, dead, strict=True):
                # Checked again in one step: the batch may have moved to the other ledger, or be gone.
                if scores == [None, None] and self._is_stray(raw):
                    (head,) = self._server.perform(each(("LRANGE", self._batch(raw), 0, 2)))
                    readable = not _what_is_wrong(raw, head, RunRecord)
                    repair = (
                        self._repairs.adopt(raw.decode()) if readable else self._repairs.quarantine(raw, head)
                    )
                    yield Finding(printable(self._batch(raw)), "no ledger knows it", repair)

    def _is_stray(self, raw_id: bytes) -> bool:
        look = transaction(
            ("EXISTS", self._batch(raw_id)),
            ("ZSCORE", self._keys.inflight, raw_id),
            ("ZSCORE", self._keys.dead, raw_id),
        )
        exists, in_flight, dead = self._server.perform(look)
        return bool(exists) and in_flight is None and dead is None


def _what_is_wrong(raw_id: bytes, head: object, second: type[RunRecord | Failure]) -> str:
    """What is wrong with a batch; empty if nothing is.

    ``head``: the first values of the batch's list, or the error if it is not a list.
    """
    if not is_batch_id(raw_id.decode("latin-1")):
        return "its id is none of a batch"
    if not isinstance(head, list):
        return "it is not a list of events"
    if len(head) < 3:
        return "its events are gone"
    try:
        Header.decode(head[0])
        second.decode(head[1])  # events are not checked: one that can't be read dies alone
    except DecodeError as error:
        return f"it can't be read: {error}"
    return ""


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
