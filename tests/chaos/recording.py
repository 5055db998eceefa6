"""Recording: wraps the library's verbs from outside, so that the history notes each call.

The library knows nothing of this. A wrapped verb does, returns and raises what it did before, with one
exception: the transaction of a cut also writes down, at the server and so reliably, who held the lease at
that moment.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from microbatch.broker.errors import InDoubt, MicrobatchError
from microbatch.broker.state.events import Events
from microbatch.broker.state.fence import Fence
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.ledger import Ledger
from microbatch.broker.state.results import Entry, Results
from microbatch.broker.transport import verb as verbs
from microbatch.broker.transport.request import Command, Request, Steps
from microbatch.broker.wire.event import event_body
from microbatch.broker.wire.in_flight import ClaimedBatch, Made, NewBatch, Next
from tests.chaos.app import history
from tests.chaos.history import DOUBT, FAIL, INVOKE, OK

CUTS = "test:cuts"
_NOTE_CUT = (
    "local note = cjson.decode(ARGV[1]) note.held = redis.call('GET', KEYS[1]) or '' "
    "return redis.call('RPUSH', KEYS[2], cjson.encode(note))"
)

Facts = dict[str, Any]


@functools.cache  # a pool's worker is a fork of a process that has done it
def record_verbs() -> None:
    """Wrap every verb whose calls the checker needs."""
    _record(Ledger, "commit", _batch_asked, _truth)
    _record(Ledger, "bury", _batch_asked, _truth)
    _record(Ledger, "divide", _divide_asked, _truth)
    _record(Fence, "enqueue_again", _enqueue_asked, lambda _: {})
    _record(Ledger, "claim", lambda *_, **__: {}, _claimed, quiet=True)
    _record(Ledger, "claim_next", lambda *_: {}, _claimed, quiet=True, what="claim")
    _record(Lease, "acquire", dict, _truth, quiet=True)
    for verb in ("read", "read_own", "wait", "take_over"):
        _record(Results, verb, lambda **_: {}, _delivered, quiet=True, what="deliver")
    _record_cuts()


def record_what_is_sent() -> None:
    """Wrap the verbs that record events. For a client that submits: only they know when an event is sent."""
    for verb in ("append", "record"):
        _record(Events, verb, _sent, lambda waiting: {} if waiting else None, what="record")


def _record(
    owner: type,
    verb: str,
    asked: Callable[..., Facts],
    answered: Callable[[Any], Facts | None],
    *,
    quiet: bool = False,
    what: str = "",
) -> None:
    """Note the calls of a verb. ``quiet``: only when a call is done, and only if it achieved something."""
    wrapped = getattr(owner, verb)
    name = what or verb

    def begun(self: Any, args: Any, kwargs: Any) -> _Call:
        facts = {"batcher": _batcher_of(self), **asked(*args, **kwargs)}
        if isinstance(self, Lease):
            facts["token"] = self.token
        return _Call(name, facts, answered, quiet=quiet)

    if isinstance(wrapped, verbs.verb):
        setattr(owner, verb, _RecordedVerb(wrapped, begun))
        return

    @functools.wraps(wrapped)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        with begun(self, args, kwargs) as call:
            return call.answer(wrapped(self, *args, **kwargs))

    setattr(owner, verb, recorded)


class _Call:
    """A call that is noted.

    A ``with`` block notes its error as well. Otherwise, a failed call looks killed.
    """

    def __init__(
        self, name: str, facts: Facts, answered: Callable[[Any], Facts | None], *, quiet: bool
    ) -> None:
        self._name, self._facts, self._answered, self._quiet = name, facts, answered, quiet
        self._call, self._since = history.new_call(), time.monotonic()
        if not quiet:
            history.note(name, INVOKE, call=self._call, **facts)

    def answer(self, answer: Any) -> Any:
        """Note the result, and return it."""
        learnt = self._answered(answer)
        if learnt is not None and not (self._quiet and learnt.get("value") is False):
            self._note(OK, **learnt)
        return answer

    def __enter__(self) -> _Call:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, MicrobatchError) and not self._quiet:
            self._note(DOUBT if isinstance(error, InDoubt) else FAIL, error=type(error).__name__)

    def _note(self, state: str, **more: Any) -> None:
        history.note(self._name, state, call=self._call, since=self._since, **self._facts, **more)


class _RecordedVerb:
    """Replaces a verb in its class by one whose calls are noted."""

    def __init__(self, wrapped: verbs.verb[Any, Any], begun: Callable[..., _Call]) -> None:
        self._wrapped, self._begun = wrapped, begun

    def __get__(self, instance: Any, owner: type) -> Any:
        bound: Any = self._wrapped.__get__(instance, owner)
        if instance is None:
            return bound
        return _BoundVerb(bound, instance.server.perform, functools.partial(self._begun, instance))


class _BoundVerb:
    def __init__(
        self, bound: Any, perform: Callable[[Steps[Any]], Any], begun: Callable[[Any, Any], _Call]
    ) -> None:
        self._bound, self._perform, self._begun = bound, perform, begun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As steps, so that the end of the call is noted where it comes, on threads and on asyncio."""
        return self._perform(self.asked(*args, **kwargs))

    def request(self, *args: Any, **kwargs: Any) -> Request[Any]:
        asked: Request[Any] = self._bound.request(*args, **kwargs)
        return asked.then(self._begun(args, kwargs).answer)

    def asked(self, *args: Any, **kwargs: Any) -> Steps[Any]:
        with self._begun(args, kwargs) as call:
            return call.answer((yield from self._bound.asked(*args, **kwargs)))


def _batcher_of(verbs: Any) -> str:
    known = vars(verbs)
    return str(known["_name"] if "_name" in known else known["_keys"].name)


def _sent(bodies: Sequence[bytes], prefix: bytes = b"", *_: Any, **__: Any) -> Facts:
    return {"events": [json.loads(event_body(prefix + body))["id"] for body in bodies]}


def _enqueue_asked(batches: Sequence[Any], *_: Any, **__: Any) -> Facts:
    return {"batches": [batch.id for batch in batches]}


def _batch_asked(batch_id: str, *_: Any, **__: Any) -> Facts:
    return {"batch": batch_id}


def _divide_asked(batch_id: str, _run: Any, parts: Sequence[Any], entry: Sequence[Any] = ()) -> Facts:
    return {"batch": batch_id, "parts": [part.id for part in parts], "entry": bool(entry)}


def _truth(answer: object) -> Facts:
    return {"value": bool(answer)}


def _claimed(batch: Next) -> Facts | None:
    if not isinstance(batch, ClaimedBatch):
        return None
    ids = [json.loads(event_body(raw))["id"] for raw in batch.events]
    return {"batch": batch.id, "attempt": batch.run.attempt, "parent": batch.header.parent, "events": ids}


def _delivered(entries: Sequence[Entry]) -> Facts | None:
    if not entries:
        return None
    return {"entries": [[entry.id, entry.fields.get(b"batch", b"").decode()] for entry in entries]}


def _record_cuts() -> None:
    """Note each cut that is tried. Its transaction notes that it was done, and under whose lease."""
    fence, cut = Lease.fence, Fence.cut

    @contextmanager
    def fence_that_knows(self: Lease, *watch: Any, **options: Any) -> Iterator[Fence]:
        with fence(self, *watch, **options) as found:
            vars(found)["token"] = self.token
            yield found

    @functools.wraps(cut)
    def recorded(self: Fence, batches: Sequence[NewBatch], jobs: Sequence[Command], **options: Any) -> Made:
        if not batches:
            return cut(self, batches, jobs, **options)
        facts = {
            "batcher": _batcher_of(self),
            "token": vars(self)["token"],
            "batches": [batch.id for batch in batches],
        }
        note = ("EVAL", _NOTE_CUT, 2, self._keys.lease, CUTS, json.dumps(facts))
        with _Call("cut", facts, lambda made: {"sizes": made.sizes}, quiet=False) as call:
            made: Made = call.answer(cut(self, batches, [*jobs, note], **options))
        return made

    Lease.fence = fence_that_knows  # type: ignore[method-assign]
    Fence.cut = recorded  # type: ignore[method-assign]
