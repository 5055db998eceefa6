"""A worker process as its pool sees it: the process, and the slot where it notes its claims."""

from __future__ import annotations

import functools
import logging
import os
import signal
import time
from pathlib import Path

from microbatch.broker.state.claims import Claims, RqPlace
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.clock import ServerClock
from microbatch.broker.transport.connection import open_client
from microbatch.broker.transport.server import Server
from microbatch.broker.transport.url import safe_url
from microbatch.worker.fork_server import ForkServer
from microbatch.worker.heartbeat import RunHeartbeat
from microbatch.worker.shown import ShownWorker
from microbatch.worker.slot import Description, Slot, slot_file

log = logging.getLogger(__name__)

_REPLY_SECONDS = 2.0  # so that a dead connection costs few beats
_END_SECONDS = 2.0  # for a process that was killed, which ends soon


class Child:
    """One worker process.

    Args:
        server: the fork server, which starts the process.
    """

    def __init__(self, server: ForkServer) -> None:
        fd = slot_file()
        try:
            self._slot = Slot(fd)
            self._process = server.fork(fd)
        finally:
            os.close(fd)
        self.started_at = time.monotonic()
        self._description: Description | None = None
        self._heartbeat: RunHeartbeat | None = None
        self._shown: ShownWorker | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        self._process.send(number)

    def beat(self) -> None:
        """Send its heartbeat if it is alive, or kill it if its run is long past its time limit."""
        if self.poll() is not None or self._is_stopped() or (heartbeat := self._beats()) is None:
            return
        if heartbeat.is_overdue():
            log.critical("worker %d is still running past its time limit; ending it", self.pid)
            self.send(signal.SIGKILL)
        else:
            heartbeat.once()

    def show(self) -> None:
        """Have RQ show that it is alive, if it is. Less important than `beat`, and must not delay it."""
        if self._shown is not None and self.poll() is None and not self._is_stopped():
            self._shown.keep()

    def forget(self) -> None:
        """Delete its keys in RQ if it ended with an error or by a signal: then it could not do so itself."""
        if self.poll() and self._beats() is not None and self._shown is not None:
            self._shown.forget()

    def end_hard(self, seconds: float) -> None:
        """Kill it, and give back the batches that it had claimed, which takes ``seconds`` at most."""
        self.send(signal.SIGKILL)
        self._process.wait(_END_SECONDS)
        heartbeat, description = self._beats(), self._description
        if heartbeat is not None and description is not None:
            heartbeat.give_back(RqPlace(description.queue, description.job_prefix), seconds)
        self.forget()

    def _beats(self) -> RunHeartbeat | None:
        """Its heartbeat, once it has described itself in its slot."""
        if self._heartbeat is None and (about := self._slot.description()) is not None:
            server, clock = _server_at(about.url)
            claims = Claims(server, Keys(about.key_prefix, about.name))
            self._description = about
            self._shown = ShownWorker(server, about)
            self._heartbeat = RunHeartbeat(
                self._slot, claims, clock,
                name=about.name, ttl_ms=about.ttl_ms, beat_seconds=about.beat_seconds,
            )  # fmt: skip
        return self._heartbeat

    def _is_stopped(self) -> bool:
        """Whether a signal such as SIGSTOP has stopped it: it may never go on."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text("latin-1").rpartition(")")[2].split()[0]
        except OSError:
            return False  # it has ended, or this system has no such file
        return state in ("T", "t")


@functools.lru_cache(maxsize=4)
def _server_at(url: str) -> tuple[Server, ServerClock]:
    """Cached, because all of a pool's processes use one server."""
    server = Server(open_client(url, _REPLY_SECONDS), safe_url(url), url)
    return server, ServerClock(server)
