"""The wait for the finish ends, whatever brings the finish nearer, at any moment of a look for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.state.flushes import Flushes
from microbatch.broker.state.ledger import Ledger
from microbatch.broker.state.progress import Progress
from microbatch.broker.state.results import Results
from microbatch.broker.state.unhandled import Unhandled
from microbatch.broker.transport import request
from microbatch.broker.transport.verb import verb
from microbatch.broker.wire.ending import Ending
from microbatch.producer import MicroBatcher
from tests.unit.conftest import MakeBroker
from tests.unit.steps import cut, record

ENTRY = ("v", 1, "result", "6")  # not an outcome: it is quarantined, which ends the wait too

VERBS: list[tuple[type, str]] = [
    (Results, "read_own"),
    (Results, "take_over"),
    (Results, "read"),
    (Progress, "open"),
    (Flushes, "state"),
    (Ledger, "in_flight"),
    (Ledger, "first_in_flight"),
    (Unhandled, "last_id"),
    (Unhandled, "any_up_to"),
    (Progress, "wait"),
]


class Steps:
    """One event on its way to the end, moved step by step from outside the consumer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._other = broker.results()
        record(broker, 1)
        self._steps = (self._cut, self._commit, self._deliver, self._handle)
        self._taken = 0

    def take(self, to: int) -> None:
        """Take steps until ``to`` have been taken."""
        while self._taken < to:
            self._taken += 1
            self._steps[self._taken - 1]()

    def _cut(self) -> None:
        (self._batch,) = cut(self._broker, 1)

    def _commit(self) -> None:
        assert self._broker.ledger.commit(self._batch.id, Ending(ENTRY))

    def _deliver(self) -> None:
        """Deliver it to another consumer, unless the consumer under test already has it."""
        self._other.prepare()
        self._entries = self._other.read(count=1)

    def _handle(self) -> None:
        if self._entries:
            self._other.acknowledge([entry.id for entry in self._entries])


def at(name: str, owner: type, moment: str, do: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Call ``do`` once, before or after the next call of a verb."""
    wrapped, pending = getattr(owner, name), [do]

    def interleaved(self: Any, *args: Any, **kwargs: Any) -> request.Steps[Any]:
        if pending and moment == "before":
            pending.pop()()
        answer = yield from wrapped.ask(self, *args, **kwargs)
        if pending:
            pending.pop()()
        return answer

    patch.setattr(owner, name, verb(interleaved))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), VERBS, ids=[f"{o.__name__}.{v}" for o, v in VERBS])
@pytest.mark.parametrize(
    ("done", "to"),
    [(0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4)],
    ids=[
        "recorded-committed",
        "cut-committed",
        "recorded-handled",
        "cut-handled",
        "committed-handled",
        "delivered-handled",
    ],
)
def test_the_wait_ends(  # noqa: PLR0917 - what is parametrized is given by name
    make_broker: MakeBroker,
    monkeypatch: pytest.MonkeyPatch,
    done: int,
    to: int,
    owner: type,
    name: str,
    moment: str,
) -> None:
    """``done`` steps happen before the wait for results, and those up to ``to`` at the given moment."""
    broker = make_broker()
    steps = Steps(broker)
    steps.take(done)
    batcher = MicroBatcher(broker.config, broker=broker)
    batcher.stop()
    wait = Progress.wait

    def ends(progress: Progress, wait_ms: int) -> request.Steps[bool]:
        assert (yield from wait.ask(progress, wait_ms)), "a wait ran out"
        return True

    monkeypatch.setattr(Progress, "wait", verb(ends))
    at(name, owner, moment, lambda: steps.take(to), monkeypatch)
    # If the verb is not called before the wait, the rest happens at the wait.
    at("wait", Progress, "before", lambda: steps.take(to), monkeypatch)
    assert batcher.wait_for_results(20)
    assert broker.unhandled.count() == 0
