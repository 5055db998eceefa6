"""The nemesis: applies the faults of a schedule to the actors and the server, each at its time."""

from __future__ import annotations

import signal
import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.state.lease import holder_of
from tests.chaos.faults import ACTIVE, BUSY_CONSUMER, BUSY_WORKER, EAT, OUTAGE, PROCESSOR, SERVER, Fault
from tests.chaos.history import INVOKE, OK, History
from tests.chaos.processes import Actor, Hands
from tests.servers import RealServer

_AGAIN_SECONDS = 0.02
_ARMED_SECONDS = 4.0
_NOBODY = (SERVER, PROCESSOR)
_ROLES = {BUSY_WORKER: "worker", BUSY_CONSUMER: "consumer"}


@dataclass(frozen=True, slots=True)
class _Doing:
    """A fault that has begun and not ended."""

    until: float
    is_over: Callable[[], bool]
    end: Callable[[], None]


class Nemesis:
    """The progress of one schedule. Times are seconds since the start."""

    def __init__(
        self,
        faults: Sequence[Fault],
        actors: Mapping[str, Actor],
        server: RealServer,
        broker: Broker,
        *,
        outage: Path,
        history: History,
        hands: Hands,
        say: Callable[[str], None],
    ) -> None:
        self._faults = list(faults)
        self._actors = actors
        self._server = server
        self._broker = broker
        self._outage = outage
        self._history = history
        self._hands = hands
        self._say = say
        self._doing: list[_Doing] = []
        self._paused = False
        self._outages = 0

    @property
    def server_answers(self) -> bool:
        """Whether the server is neither killed nor stopped."""
        return self._server.running and not self._paused

    def step(self, now: float) -> None:
        """Begin and end the faults that are due."""
        while self._faults and self._faults[0].at <= now:
            fault = self._faults.pop(0)
            actor, pid = (None, 0) if fault.target in _NOBODY else self._victim(fault)
            if actor is None and fault.target not in _NOBODY:  # the target does not exist yet: try later
                insort(self._faults, replace(fault, at=now + _AGAIN_SECONDS), key=lambda later: later.at)
            else:
                self._begin(fault, actor, pid)
        for doing in list(self._doing):
            if time.monotonic() >= doing.until or doing.is_over():
                self._doing.remove(doing)
                doing.end()

    def end(self) -> None:
        """End all faults that have begun, and begin no more."""
        self._faults.clear()
        for doing in self._doing:
            doing.end()
        self._doing.clear()

    def _victim(self, fault: Fault) -> tuple[Actor | None, int]:
        """The actor that a fault hits, and which of its processes. The actor is None if none fits now."""
        if fault.target in self._actors:
            actor = self._actors[fault.target]
            return (actor if actor.running else None), actor.pid
        if not self.server_answers:
            return None, 0
        if fault.target == ACTIVE:
            token = self._broker.server.do("GET", self._broker.keys.lease)
            pid = holder_of(token.decode()).pid if token else 0
            return next(
                (actor for actor in self._actors.values() if actor.running and actor.pid == pid), None
            ), pid
        name, pid = self._hands.busy(_ROLES[fault.target])
        return (self._actors[name] if name and self._actors[name].hand == pid else None), pid

    def _begin(self, fault: Fault, actor: Actor | None, pid: int) -> None:
        self._say(f"{fault}{f': {actor.name}' if actor and actor.name != fault.target else ''}")
        facts: dict[str, Any] = {
            "kind": fault.kind,
            "target": actor.name if actor else fault.target,
            "victim": actor.hand if actor else 0,
        }
        call, since = self._history.new_call(), time.monotonic()
        if fault.kind != EAT:
            self._history.note("fault", INVOKE, call=call, **facts)

        def note() -> None:
            begun = 0.0 if fault.kind == EAT else since  # until a reply is eaten, nothing has happened
            self._history.note("fault", OK, call=call, since=begun, **facts)

        if actor is None:
            end = self._to_processor() if fault.kind == OUTAGE else self._to_server(fault.kind)
            self._later(fault.seconds, end, note)
            return
        match fault.kind:
            case "kill":
                if pid == actor.pid:
                    actor.kill()
                else:
                    actor.send(signal.SIGKILL, pid)
                note()
            case "stop" | "freeze":
                actor.send(signal.SIGSTOP, pid)
                self._later(fault.seconds, lambda: actor.send(signal.SIGCONT, pid), note)
            case "silence":
                actor.proxy.go_silent()
                self._later(fault.seconds, lambda: actor.proxy.go_on(hang_up=fault.hang_up), note)
            case _:
                self._eat(fault, actor, note)

    def _to_processor(self) -> Callable[[], None]:
        """Make every call of the processor fail. Returns the function that ends this outage."""
        self._outages += 1
        self._outage.touch()

        def work_again() -> None:
            self._outages -= 1
            if not self._outages:
                self._outage.unlink()

        return work_again

    def _to_server(self, kind: str) -> Callable[[], None]:
        """Kill or stop the server. Returns the function that restores it."""
        if kind == SERVER:
            self._server.kill()
        elif self._server.running:
            self._server.pause()
            self._paused = True

        def work_again() -> None:
            self._paused = False
            if self._server.running:
                self._server.resume()
            elif kind == SERVER:
                self._server.start()

        return work_again

    def _eat(self, fault: Fault, actor: Actor, note: Callable[[], None]) -> None:
        eaten = actor.proxy.eaten
        actor.proxy.eat_reply_to(*fault.words)

        def end() -> None:
            actor.proxy.eat_nothing()
            if eaten.is_set():
                note()

        self._doing.append(_Doing(time.monotonic() + _ARMED_SECONDS, eaten.is_set, end))

    def _later(self, seconds: float, end: Callable[[], None], note: Callable[[], None]) -> None:
        def both() -> None:
            end()
            note()

        self._doing.append(_Doing(time.monotonic() + seconds, lambda: False, both))
