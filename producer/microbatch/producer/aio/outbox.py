"""The outbox: events of many tasks on their way to the server, in few writes.

What is put into it while a write is under way goes out with the next one. So nothing lingers, and the more
tasks record at the same time, the more of their events share a round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from microbatch.broker.errors import InDoubt, MicrobatchError, Unavailable
from microbatch.producer.aio.home import Home
from microbatch.producer.pending import own_copy
from microbatch.producer.recorder import CHUNK_BYTES


@dataclass(slots=True, eq=False)
class Outgoing:
    """Events of one caller, which are recorded together."""

    raws: Sequence[bytes]
    tell: Callable[[Outgoing, BaseException | None], None]
    """Called once, when the events are recorded, or with the reason why they may not be. Does not raise.

    It is called at once, because a future would cost each call another turn of the event loop.
    """
    event_id: str = ""
    until: float = 0.0
    """Up to when it may wait for room, in monotonic time."""
    is_seen: bool = False
    """Whether its id was seen before, so that it was not recorded."""
    is_settled: bool = False
    """Whether its caller was told, or no longer waits."""

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the caller that its events are recorded, or why they may not be. Nothing after `cancel`."""
        if not self.is_settled:
            self.is_settled = True
            self.tell(self, error)

    def cancel(self) -> None:
        """The caller no longer waits. Its events are not sent, if they were not sent yet."""
        self.is_settled = True


class Outbox:
    """Sends what callers put into it, in the order in which it was put.

    Args:
        home: the client's.
        send: sends some callers' events, and raises what each of the callers is to be told.
        senders: how many tasks send at the same time, at most.
        most: how many events go out at once, at most, unless one caller has more.
    """

    def __init__(
        self, home: Home, send: Callable[[Sequence[Outgoing]], Awaitable[None]], *, senders: int, most: int
    ) -> None:
        self._home = home
        self._send = send
        self._most_senders = senders
        self._most = most
        self._waiting: deque[Outgoing] = deque()
        self._sending: set[Outgoing] = set()
        self._sent = asyncio.Event()
        self._senders: set[asyncio.Task[Any]] = set()

    def post(self, outgoing: Outgoing) -> None:
        """Send events, and return at once."""
        self._waiting.append(outgoing)
        if len(self._senders) < self._most_senders:
            sender = self._home.start(self._run())
            self._senders.add(sender)
            sender.add_done_callback(self._ended)

    async def empty(self) -> None:
        """Return when everything that is in it now is settled, whatever its callers were told."""
        now = [*self._waiting, *self._sending]
        while not all(outgoing.is_settled for outgoing in now):
            self._sent.clear()
            await self._sent.wait()

    async def over(self, seconds: float) -> None:
        """Return when it is empty and nothing is being sent, or after ``seconds``."""
        if self._senders:
            await asyncio.wait(tuple(self._senders), timeout=seconds)

    async def _run(self) -> None:
        try:
            while several := self._next():
                self._sending.update(several)
                try:
                    await self._settle(several)
                finally:
                    self._sending.difference_update(several)
                    self._sent.set()
        finally:  # at once, so that what is put into it from now on starts another
            if (sender := asyncio.current_task()) is not None:
                self._senders.discard(sender)

    def _ended(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)  # one that was cancelled before it began
        if not self._senders:  # some are left only if the sender was cancelled, as when the event loop ends
            while self._waiting:
                self._waiting.popleft().settle(Unavailable("the event loop ended before the event was sent"))
            self._sent.set()

    def _next(self) -> list[Outgoing]:
        """The oldest that go out together; empty if none is left."""
        several: list[Outgoing] = []
        count = size = 0
        while self._waiting:
            outgoing = self._waiting[0]
            if outgoing.is_settled:  # its caller was cancelled
                self._waiting.popleft()
                continue
            count += len(outgoing.raws)
            size += sum(map(len, outgoing.raws))
            if several and (count > self._most or size > CHUNK_BYTES):
                break
            several.append(self._waiting.popleft())
        return several

    async def _settle(self, several: Sequence[Outgoing]) -> None:
        """Send, and tell the callers. Each gets an exception of its own, because several raise it."""
        try:
            await self._send(several)
        except MicrobatchError as error:
            for outgoing in several:
                outgoing.settle(own_copy(error))
        except BaseException as error:
            # It is unknown what the server did.
            for outgoing in several:
                outgoing.settle(
                    InDoubt(f"{type(error).__name__} while the event was sent: it may be recorded")
                )
            if not isinstance(error, Exception):
                raise
        else:
            for outgoing in several:
                outgoing.settle()
