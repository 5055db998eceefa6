"""A run: a server, the actors, each behind its own proxy, and the faults that hit them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from microbatch.broker.broker import Broker
from tests.chaos import app, state
from tests.chaos.conditions import NAME, OWN_NAME, Conditions
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.nemesis import Nemesis
from tests.chaos.operator import Operator
from tests.chaos.processes import Actor, Hands
from tests.servers import RealServer
from tests.waiting import wait_until

CAST = {
    "scheduler": 2, "worker": 4, "consumer": 2, "producer": 3, "stopper": 1,
    "worker-own": 2, "submitter": 1, "awaiter": 1,
}  # fmt: skip
_WORKERS = {NAME: "worker", OWN_NAME: "worker-own"}
"""The role that runs the batches, by batcher."""
DRAIN_SECONDS = 120.0
"""After an outage, the next probe may be 30 s away. Then all is tried again, and bad events are isolated."""
_LAST_REPLIES_SECONDS = 45.0
"""A client that submits ends when its last timeout is over."""
_STEP_SECONDS = 0.02


def names(cast: Mapping[str, int]) -> list[str]:
    """The actors' names."""
    return [f"{role}-{number}" for role, count in cast.items() for number in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Played:
    """What is left after a run."""

    history: Path
    states: Mapping[str, state.State]
    """The state of each batcher that was at work."""
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
        at_work = [name for name, role in _WORKERS.items() if role in cast]
        self._actors = {
            name: Actor(
                name, self._server, folder,
                seed=seed, mutant=mutant, conditions=conditions, batchers=at_work,
            )
            for name in names(cast)
        }  # fmt: skip
        self._history = History(folder / "history", "harness")
        self._conditions = conditions or Conditions()
        configs = self._conditions.config, self._conditions.own_config
        self._brokers = [Broker(config(redis_url=self._server.socket_url)) for config in configs]
        self._at_work = [broker for broker in self._brokers if broker.config.name in at_work]
        self._operators = [Operator(broker, self._history) for broker in self._at_work]
        self._nemesis = Nemesis(
            faults, self._actors, self._server, self._brokers[0],
            outage=folder / app.OUTAGE, history=self._history, hands=Hands(folder / "history"), say=say,
        )  # fmt: skip

    def __enter__(self) -> Run:
        self._stack.callback(self._history.close)
        self._stack.enter_context(self._server)
        for broker in self._brokers:
            self._stack.callback(broker.close)
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
                for operator in self._operators:
                    operator.step(now)
                    operator.count()
            self._look_after_all()
        self._nemesis.end()
        self._history.note("calm")
        self._drain()
        states = {broker.config.name: state.look(broker) for broker in self._at_work}
        for actor in self._actors.values():
            actor.retire(10)
        ends = {actor.name: actor.ends for actor in self._actors.values() if actor.ends}
        return Played(self._folder / "history", states, ends)

    def _works(self) -> bool:
        self._look_after_all()
        return all(broker.stats.counters().done_batches > 0 for broker in self._at_work)

    def _look_after_all(self) -> None:
        for actor in self._actors.values():
            actor.look_after()
        time.sleep(_STEP_SECONDS)

    def _drain(self) -> None:
        producers, stoppers, clients = (
            self._of("producer"),
            self._of("stopper"),
            self._of("submitter", "awaiter"),
        )
        for actor in (*producers, *stoppers, *clients):
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
        for actor in clients:
            actor.retire(_LAST_REPLIES_SECONDS)
        self._history.note("drained")

    def _of(self, *roles: str) -> list[Actor]:
        return [actor for actor in self._actors.values() if actor.role in roles]

    def _wait_until_nothing_is_left(self, until: float) -> None:
        while any(map(state.left, self._at_work)) and time.monotonic() < until:
            for operator in self._operators:
                operator.count()
            self._look_after_all()
