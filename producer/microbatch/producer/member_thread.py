"""A member's thread: drives a membership with a connection for its blocking commands and a heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.process.loop import Loop
from microbatch.broker.transport.listener import Listener
from microbatch.broker.transport.request import Request
from microbatch.broker.transport.server import Server
from microbatch.producer.drain import Drain
from microbatch.producer.handlers import Handlers
from microbatch.producer.member import Member
from microbatch.producer.work import Call, Listen, Move, Pause, drive


class MemberThread:
    """One membership, for one thread at a time. Only `wake` may be called from other threads.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: Broker) -> None:
        self._server = broker.server
        self._listener = Listener(broker.server)
        self.member = Member(broker, Handlers(broker), self._listener.clear)
        self.wake = self._listener.wake
        self.thread = 0
        """The thread that uses this membership."""
        self.over = threading.Lock()
        """Held by that thread while it uses this membership."""

    def run(
        self, is_told: Callable[[], bool], drain: Callable[[], Drain[Server] | None], until: float
    ) -> bool:
        """Do `Member.run` on this thread. Handlers are called here too."""
        heart = self.member.heartbeat
        heartbeat = Loop(heart.beat, heart.seconds, "claim heartbeat")
        heartbeat.start()
        try:
            return drive(self.member.run(is_told, drain, until), self._make)
        finally:
            heartbeat.stop()

    def pause(self, seconds: float, is_told: Callable[[], bool]) -> None:
        """Do `Member.pause` on this thread."""
        drive(self.member.pause(seconds, is_told), self._make)

    def leave(self) -> None:
        """Do `Member.leave` on this thread, and return the connection to the pool."""
        self._listener.close()
        drive(self.member.leave(), self._make)

    def _make(self, move: Move) -> Any:
        match move:
            case Request():
                return self._server.perform(move)
            case Call():
                return move.handler(move.value, move.batch)
            case Listen():
                return self._listener.perform(move.asked)
            case Pause():
                return self._listener.pause(move.seconds)
