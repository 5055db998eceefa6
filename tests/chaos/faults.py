"""The faults of a run: kind, target and time. They are drawn from a seed, so a schedule can be repeated."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.lua import scripts
from tests.chaos.conditions import REPLY_SECONDS

KILL, STOP, FREEZE, SERVER, SILENCE, EAT, OUTAGE = (
    "kill", "stop", "freeze", "server", "silence", "eat", "outage"
)  # fmt: skip
KINDS = (KILL, STOP, FREEZE, SERVER, SILENCE, EAT, OUTAGE)

PROCESSOR = "processor"
"""The target of an outage: the processor fails on all workers."""

ACTIVE = "scheduler-active"
"""The scheduler that holds the lease when the fault comes."""
BUSY_WORKER = "worker-busy"
BUSY_CONSUMER = "consumer-busy"
"""The worker or consumer that has a batch or a result in hand when the fault comes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: ``at`` seconds after the start, ``kind`` happens to ``target``, for ``seconds`` if it lasts.

    ``words``: text in the command whose reply is eaten. ``hang_up``: close the connections after a silence.
    """

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    words: tuple[str, ...] = ()
    hang_up: bool = False

    def __str__(self) -> str:
        more = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.kind:8s}{self.target}{more}{' ' + self.eaten if self.words else ''}"

    @property
    def eaten(self) -> str:
        return f"({_NAMES.get(self.words, ' '.join(self.words))})"


_RECORD = ("RPUSH", ":events")
_CUT = ("MULTI", "-- cut:", "EXEC")
_COMMIT = ("EVALSHA", ":inflight", ":results")  # also a division; a mutant's script has another hash
_COMMIT_OWN = ("EVALSHA", ":inflight", ":reply:")  # also a division or a burial
_AFTER_LOOK = ("LLEN", ":events", ":events")  # what a scheduler requests after it has seen what waits
_CLAIM = ("EVALSHA", scripts.CLAIM_NEXT.sha)
_HANDLED = ("EVALSHA", scripts.ACKNOWLEDGE.sha)
_SUBMIT = ("EVALSHA", scripts.RECORD.sha)
_REPLIES = ("XREAD", ":reply:")
EATEN: dict[str, Sequence[tuple[str, ...]]] = {
    "producer": [_RECORD, _RECORD, ("EVALSHA", scripts.RECORD.sha)],
    "scheduler": [
        _CUT,
        _CUT,
        _AFTER_LOOK,
        ("EVALSHA", scripts.RENEW_LEASE.sha),
        ("BLPOP", ":wake"),
        ("MULTI", "EXEC"),
    ],
    "worker": [
        _COMMIT,
        _COMMIT,
        _COMMIT,
        _CLAIM,
        ("BLMOVE", "rq:queue:"),
        ("EVALSHA", scripts.SWAP_RUN.sha),
        ("EVALSHA", scripts.DIVIDE.sha),
    ],
    "worker-own": [_COMMIT_OWN, _COMMIT_OWN, ("EVALSHA", scripts.DIVIDE.sha), ("EVALSHA", scripts.BURY.sha)],
    "submitter": [_SUBMIT, _REPLIES],
    "awaiter": [_SUBMIT, _REPLIES],
    "consumer": [_HANDLED, ("XREADGROUP",), ("XAUTOCLAIM",)],
    "stopper": [_HANDLED, ("XREADGROUP",), ("XREAD", ":progress")],
}
"""The commands whose reply may be eaten, by role."""
_NAMES = {
    ("EVALSHA", script.sha): script.name
    for script in vars(scripts).values()
    if isinstance(script, scripts.Script)
} | {_CUT: "cut", _RECORD: "record", _COMMIT: "commit", _AFTER_LOOK: "after LLEN"}

_WEIGHTS = {KILL: 25, STOP: 15, FREEZE: 6, SERVER: 8, SILENCE: 12, EAT: 40, OUTAGE: 4}
_PREFERRED = (*2 * (ACTIVE,), *5 * (BUSY_WORKER,), *2 * (BUSY_CONSUMER,))
_CLIENTS = ("submitter", "awaiter")
_FREEZE_SECONDS = (REPLY_SECONDS + 1.5, REPLY_SECONDS + 3.0)
"""A client is frozen for longer than its replies are kept."""
_FIRST_AT, _GAP = 2.0, (0.8, 4.0)
_OUTAGE_SECONDS = (5.0, 20.0)
_OUTAGE_SHARE = 0.25
"""The longest outage, as a share of the run, so that a short run has time for other faults."""


def draw(seed: int, seconds: float, actors: Sequence[str]) -> list[Fault]:
    """The schedule of a run.

    The faults that every run needs come first, in random order; then random ones.
    """
    dice = random.Random(seed)
    opening = [(EAT, "producer"), (KILL, BUSY_WORKER), (KILL, ACTIVE), (SERVER, "server"), (EAT, "worker")]
    opening += [(SILENCE, ""), (STOP, ""), (KILL, BUSY_CONSUMER), (OUTAGE, ""), (FREEZE, "")]
    dice.shuffle(opening)
    faults, at = [], _FIRST_AT
    while at < seconds:
        kind, target = (
            opening.pop() if opening else (dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0], "")
        )
        faults.append(
            _outage(dice, at, seconds) if kind == OUTAGE else _fault(dice, at, kind, target, actors)
        )
        at += dice.uniform(*_GAP) if len(faults) > 1 else _GAP[0]
    return faults


def _outage(dice: random.Random, at: float, run_seconds: float) -> Fault:
    least, most = _OUTAGE_SECONDS
    return Fault(
        at, OUTAGE, PROCESSOR, dice.uniform(least, max(least, min(most, run_seconds * _OUTAGE_SHARE)))
    )


def _fault(dice: random.Random, at: float, kind: str, target: str, actors: Sequence[str]) -> Fault:
    someone = dice.choice([*actors, *_PREFERRED])
    match kind:
        case "server":
            return Fault(at, kind, "server", dice.uniform(0.2, 3.0))
        case "stop":
            return Fault(at, kind, dice.choice([someone] * 9 + [SERVER]), dice.uniform(0.5, 3.0))
        case "freeze":
            clients = [name for name in actors if name.startswith(_CLIENTS)]
            return Fault(at, kind, dice.choice(clients), dice.uniform(*_FREEZE_SECONDS))
        case "silence":
            hang_up = dice.random() < 0.5
            return Fault(at, kind, someone, dice.uniform(0.5, 4.0), hang_up=hang_up)
        case "eat":
            role = target or dice.choice(list(EATEN))
            victim = dice.choice([name for name in actors if name.startswith(role)] or [role])
            if role == "scheduler":
                victim = ACTIVE
            return Fault(at, kind, victim, words=tuple(dice.choice(EATEN[role])))
        case _:
            return Fault(at, kind, target or someone)


def by_kind(faults: Sequence[Fault]) -> Counter[str]:
    return Counter(fault.kind for fault in faults)
