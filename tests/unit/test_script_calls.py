"""Every call of a script passes as many keys and arguments as the script's head lists."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.quarantine import quarantine_keys
from microbatch.broker.inspect.tally import take_tally
from microbatch.broker.state import lease as lease_module
from microbatch.broker.state.claims import RqPlace, claim_of
from microbatch.broker.state.events import Events
from microbatch.broker.state.results import Entry, Results
from microbatch.broker.transport import request
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.in_flight import Claim, halves_of
from tests.unit.steps import bury, claim, cut, due, lease_of, record_and_cut, retry
from tests.wiretap import SCRIPTS

ROOT = Path(__file__).parents[2] / "broker"
ID = "0" * 32
FIELDS = ("v", 1, "result", "{}")


def replay(broker: Broker) -> None:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    assert bury(broker, claimed.id, claimed.run)
    assert broker.dead.replay(claimed.id) == (2, 2)


def renew(broker: Broker) -> None:
    assert broker.claims.renew(claim_of(claim(broker, record_and_cut(broker, 1))), due_ms=1)


def give_back(broker: Broker) -> None:
    for rq in (None, RqPlace("queue", "job:")):
        claimed = claim_of(claim(broker, record_and_cut(broker, 1)))
        assert broker.claims.give_back(claimed, rq, due_ms=1)


def record_guarded(broker: Broker) -> None:
    bounded = Events(broker.server, broker.keys, broker.clock, max_waiting=10)
    assert bounded.record([b"a", b"b"]) == 2
    replicated = Events(broker.server, broker.keys, broker.clock, replicated=True)
    assert next(iter(replicated.record.asked([b"a"]))).count == 2


def record_eagerly(broker: Broker) -> None:
    eager = Events(broker.server, broker.keys, broker.clock, eager=True, dedupe_window=60)
    assert eager.record([b"a", b"b"]) == 2
    assert eager.record([b"c"], event_id="id") == 3


def enqueue_again(broker: Broker) -> None:
    batches = cut_two(broker)
    with lease_of(broker).fence() as fence:
        assert len(fence.enqueue_again(batches, (), due_ms=1)) == 2


def cut_two(broker: Broker) -> Any:
    broker.events.record([b"a", b"b"])
    cut(broker, 1, 1)
    return due(broker, broker.clock.now_ms())


def seize(broker: Broker) -> None:
    assert broker.lease().acquire()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease_module, "_SILENT_TTLS", 0)
        assert broker.lease().seize()


def retry_one(broker: Broker) -> None:
    assert retry(broker, claim(broker, record_and_cut(broker, 1)), due_ms=1)


def commit(broker: Broker) -> None:
    for entry in ((), FIELDS):
        assert broker.ledger.commit(record_and_cut(broker, 1), Ending(entry))


def bury_two(broker: Broker) -> None:
    for keeps in (True, False):
        broker.ledger._keeps_outcomes = keeps
        claimed = claim(broker, record_and_cut(broker, 1))
        assert bury(broker, claimed.id, claimed.run)


def divide(broker: Broker) -> None:
    for entry in ((), FIELDS):
        claimed = claim(broker, record_and_cut(broker, 1, 2, 3))
        assert broker.ledger.divide(
            claimed.id, claimed.run, halves_of(claimed, claimed.run, due_ms=1), Ending(entry)
        )


def member(broker: Broker) -> Results:
    results = broker.results()
    results.prepare()
    return results


def forget_silent(broker: Broker) -> None:
    member(broker).read(count=1)
    assert broker.results().forget_silent(idle_ms=0) == 1


def clamp(broker: Broker) -> object:
    return broker.recovery.clamp(1, soon_ms=1, retry_ms=1, asked_ms=1, limit=1)


Use = Callable[[Broker], object]
USES: dict[str, Use] = {
    "quarantine_keys": lambda broker: quarantine_keys(broker.server, broker.keys),
    "_page": lambda broker: take_tally(broker.server, broker.keys),
    "Breaker.note_failure": lambda broker: broker.breaker.note_failure(ID, "ValueError", now_ms=1),
    "Claims.find": lambda broker: broker.claims.find("owner", 1),
    "Claims.renew": renew,
    "Claims.give_back": give_back,
    "Dead.replay": replay,
    "Dead.purge": lambda broker: broker.dead.purge(ID),
    "Dead.retire": lambda broker: broker.dead.retire(before_ms=None, kept=None, limit=1),
    "Dead.requeue": lambda broker: broker.dead.requeue(ID, due_ms=1, died_before_ms=1),
    "Events._append": record_eagerly,
    "Events._record_guarded": record_guarded,
    "Fence.cut": cut_two,
    "Fence.enqueue_again": enqueue_again,
    "Lease.note_flushed": lambda broker: broker.lease().note_flushed(1),
    "Lease._renewal": lambda broker: broker.lease().renew(),
    "Lease.seize": seize,
    "Lease.release": lambda broker: broker.lease().release(),
    "Ledger.claim": lambda broker: claim(broker, record_and_cut(broker, 1)),
    "Ledger.claim_next": lambda broker: broker.ledger.claim_next("jobs", "others", Claim("owner", 1, 1)),
    "Ledger.retry": retry_one,
    "Ledger.commit": commit,
    "Ledger.bury": bury_two,
    "Ledger.divide": divide,
    "Recovery.survey": lambda broker: broker.recovery.survey(1, retries=1, others=1),
    "Recovery.first_retry": lambda broker: broker.recovery.first_retry(),
    "Recovery.room": lambda broker: broker.recovery.room(1, 1),
    "Recovery.clamp": clamp,
    "Recovery.reschedule": lambda broker: broker.recovery.reschedule({ID: 1, "1" * 32: 2}),
    "Recovery.quarantine": lambda broker: broker.recovery.quarantine(ID, b""),
    "Results.extend_claim": lambda broker: member(broker).extend_claim(["1-0", "2-0"]),
    "Results.acknowledge": lambda broker: member(broker).acknowledge(["1-0", "2-0"]),
    "Results.quarantine": lambda broker: broker.results().quarantine(Entry("1-0", {})),
    "Results.forget_silent": forget_silent,
    "Results.leave_group": lambda broker: broker.results().leave_group(),
    "Results._hand_back": lambda broker: broker.results().hand_back(),
}
"""A call of each function that uses a script."""


def users() -> dict[str, set[str]]:
    """The functions that use scripts, and the names of these scripts."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        for name, node in functions_of(ast.parse(path.read_text("utf-8"))):
            used = {
                part.attr.lower()
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute)
                and isinstance(part.value, ast.Name)
                and part.value.id == "scripts"
            }
            if used:
                found.setdefault(name, set()).update(used)
    return found


def functions_of(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions_of(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield f"{within}{node.name}", node


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Each script call that is packed: the script, and the numbers of its keys and arguments."""
    names = {script.sha: script.name for script in SCRIPTS} | {script.text: script.name for script in SCRIPTS}
    found: list[tuple[str, int, int]] = []
    pack = vars(request)["pack_command"]

    def note_and_pack(words: tuple[Any, ...]) -> Any:
        if words[0] in ("EVALSHA", "EVAL"):
            _, script, keys, *operands = words
            found.append((names[script], keys, len(operands) - keys))
        return pack(words)

    monkeypatch.setattr(request, "pack_command", note_and_pack)
    return found


def test_each_use_of_a_script_is_called_here() -> None:
    used = users()
    assert used.keys() == USES.keys()
    assert set().union(*used.values()) == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("user", USES)
def test_a_script_is_given_what_its_head_lists(
    user: str, broker: Broker, given: list[tuple[str, int, int]]
) -> None:
    USES[user](broker)
    assert users()[user] <= {name for name, _, _ in given}
    scripts = {script.name: script for script in SCRIPTS}
    for name, keys, args in given:
        assert scripts[name].keys.allow(keys), f"{name} is given {keys} keys"
        assert scripts[name].args.allow(args), f"{name} is given {args} arguments"
