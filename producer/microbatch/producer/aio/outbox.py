"""The outbox: events of many tasks on their way to the server, in few writes.

What is put into it while a write is under way goes out with the next one. So nothing lingers, and the more
tasks record at the same time, the more of their events share a round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from microbatch.broker.errors import InDoubt, MicrobatchError, Unavailable
from microbatch.producer.aio.home import Home
from microbatch.producer.pending import own_copy
from microbatch.producer.recorder import CHUNK_BYTES


@dataclass(slots=True, eq=False)
class Outgoing:
    """Events of one caller, which are recorded together."""

    raws: Sequence[bytes]
    event_id: str = ""
    until: float = 0.0
    """Up to when it may wait for room, in monotonic time."""
    is_seen: bool = False
    """Whether its id was seen before, so that it was not recorded."""
    settled: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the caller, unless it was cancelled, that its events are recorded, or why they may not be."""
        if self.settled.done():
            return
        if error is None:
            self.settled.set_result(None)
        else:
            self.settled.set_exception(error)


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
        self._unsettled: set[Outgoing] = set()
        self._senders: set[asyncio.Task[Any]] = set()

    async def put(self, outgoing: Outgoing) -> None:
        """Send events, and return when the server holds them.

        If the caller is cancelled before they were sent, they are not sent. Raises what ``send`` raises.
        """
        self.post(outgoing)
        await outgoing.settled

    def post(self, outgoing: Outgoing) -> None:
        """Send events, and return at once. They are not sent if ``settled`` is cancelled before."""
        self._waiting.append(outgoing)
        self._unsettled.add(outgoing)
        outgoing.settled.add_done_callback(lambda _: self._unsettled.discard(outgoing))
        if len(self._senders) < self._most_senders:
            sender = self._home.start(self._run())
            self._senders.add(sender)
            sender.add_done_callback(self._ended)

    async def empty(self) -> None:
        """Return when everything that is in it now is settled, whatever its callers were told."""
        if now := [outgoing.settled for outgoing in self._unsettled]:
            await asyncio.wait(now)

    async def over(self, seconds: float) -> None:
        """Return when it is empty and nothing is being sent, or after ``seconds``."""
        if self._senders:
            await asyncio.wait(tuple(self._senders), timeout=seconds)

    async def _run(self) -> None:
        try:
            while several := self._next():
                await self._settle(several)
        finally:  # at once, so that what is put into it from now on starts another
            if (sender := asyncio.current_task()) is not None:
                self._senders.discard(sender)

    def _ended(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)  # one that was cancelled before it began
        if not self._senders:  # some are left only if the sender was cancelled, as when the event loop ends
            while self._waiting:
                self._waiting.popleft().settle(Unavailable("the event loop ended before the event was sent"))

    def _next(self) -> list[Outgoing]:
        """The oldest that go out together; empty if none is left."""
        several: list[Outgoing] = []
        count = size = 0
        while self._waiting:
            outgoing = self._waiting[0]
            if outgoing.settled.done():  # its caller was cancelled
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
