"""A run: a server, the actors, each behind its own proxy, and the faults that hit them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from microbatch.broker.broker import Broker
from tests.chaos import app, state
from tests.chaos.conditions import Conditions
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.nemesis import Nemesis
from tests.chaos.operator import Operator
from tests.chaos.processes import Actor, Hands
from tests.servers import RealServer
from tests.waiting import wait_until

CAST = {"scheduler": 2, "worker": 4, "consumer": 2, "producer": 3, "stopper": 1}
DRAIN_SECONDS = 120.0
"""After an outage, the next probe may be 30 s away. Then all is tried again, and bad events are isolated."""
_STEP_SECONDS = 0.02


def names(cast: Mapping[str, int]) -> list[str]:
    """The actors' names."""
    return [f"{role}-{number}" for role, count in cast.items() for number in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Played:
    """What is left after a run."""

    history: Path
    state: state.State
    ends: dict[str, list[int]]
    """The exit codes of the processes that ended without being killed, by actor."""


class Run:
    """One run in its own folder. For a ``with`` block, after which nothing is left running."""

    def __init__(
        self,
        folder: Path,
        faults: Sequence[Fault],
        *,
        seed: int = 0,
        cast: Mapping[str, int] = CAST,
        mutant: str = "",
        conditions: Conditions | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._server = RealServer("valkey", folder, appendonly=True)
        self._actors = {
            name: Actor(name, self._server, folder, seed=seed, mutant=mutant, conditions=conditions)
            for name in names(cast)
        }
        self._history = History(folder / "history", "harness")
        self._conditions = conditions or Conditions()
        self._broker = Broker(self._conditions.config(redis_url=self._server.socket_url))
        self._operator = Operator(self._broker, self._history)
        self._nemesis = Nemesis(
            faults, self._actors, self._server, self._broker,
            outage=folder / app.OUTAGE, history=self._history, hands=Hands(folder / "history"), say=say,
        )  # fmt: skip

    def __enter__(self) -> Run:
        self._stack.callback(self._history.close)
        self._stack.enter_context(self._server)
        self._stack.callback(self._broker.close)
        for actor in self._actors.values():
            self._stack.enter_context(actor.proxy)
            self._stack.callback(actor.kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, seconds: float) -> Played:
        """Start all actors, apply the faults for ``seconds``, let everything drain, and end."""
        for actor in self._actors.values():
            actor.start()
        wait_until(self._works, 120, lambda: f"a first batch; the logs are in {self._folder}")
        self._history.note("begin")
        started = time.monotonic()
        while (now := time.monotonic() - started) < seconds:
            self._nemesis.step(now)
            if self._nemesis.server_answers:
                self._operator.step(now)
                self._operator.count()
            self._look_after_all()
        self._nemesis.end()
        self._history.note("calm")
        self._drain()
        found = state.look(self._broker)
        for actor in self._actors.values():
            actor.retire(10)
        ends = {actor.name: actor.ends for actor in self._actors.values() if actor.ends}
        return Played(self._folder / "history", found, ends)

    def _works(self) -> bool:
        self._look_after_all()
        return self._broker.stats.counters().done_batches > 0

    def _look_after_all(self) -> None:
        for actor in self._actors.values():
            actor.look_after()
        time.sleep(_STEP_SECONDS)

    def _drain(self) -> None:
        producers, stoppers = self._of("producer"), self._of("stopper")
        for actor in (*producers, *stoppers):
            actor.dismiss()
        for actor in producers:
            actor.retire(10)
        give_up_at = time.monotonic() + DRAIN_SECONDS
        self._wait_until_nothing_is_left(time.monotonic() + self._conditions.slow_seconds)
        (self._folder / app.HURRY).touch()
        self._wait_until_nothing_is_left(give_up_at)
        for actor in stoppers:  # its last stop ends now
            actor.retire(10)
        self._wait_until_nothing_is_left(give_up_at)
        self._history.note("drained")

    def _of(self, role: str) -> list[Actor]:
        return [actor for actor in self._actors.values() if actor.role == role]

    def _wait_until_nothing_is_left(self, until: float) -> None:
        while state.left(self._broker) and time.monotonic() < until:
            self._operator.count()
            self._look_after_all()
