"""A session: what an asyncio client has open between the begin and the end of its block."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from microbatch.broker.broker import AsyncBroker
from microbatch.broker.process.loggable import message
from microbatch.broker.transport.backoff import PASSING, Tries
from microbatch.producer.aio.consumer import AsyncConsumer
from microbatch.producer.aio.home import Home
from microbatch.producer.aio.recorder import AsyncRecorder
from microbatch.producer.aio.submitter import AsyncSubmitter

log = logging.getLogger(__name__)


class Session:
    """The parts of one client. Whatever reads from the server for it is a task of its home.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        self.broker = broker
        self.name = broker.config.name
        self.home = Home(self.name)
        self.recorder = AsyncRecorder(broker, self.home)
        self.consumer = AsyncConsumer(broker, self.home)
        per_event = broker.config.per_event
        self.submitter = AsyncSubmitter(broker, self.home, self.recorder) if per_event else None

    async def open(self, wait: float | None) -> None:
        """Return once the server has answered and can be used; give up after ``wait`` seconds.

        Raises WrongLoop, and ServerError as `connect` says.
        """
        self.home.open()
        server = self.broker.server
        tries = Tries(self.name, wait)
        try:
            while True:
                try:
                    await server.check_version()
                except PASSING as error:
                    await asyncio.sleep(tries.failed(error))
                else:
                    break
        except BaseException:
            await server.close()
            raise
        tries.succeeded()
        log.info("%s: recording, at %s", self.name, server.where)

    async def stop(self) -> None:
        """Stop recording, and have all waiting events cut. Raises ServerError: the server can't be told."""
        self.recorder.stop()
        await self.recorder.settled()
        await self.consumer.stop()

    async def close(self, caller: asyncio.Task[Any] | None) -> None:
        """Stop recording and consuming, and close the connections. A handler may be the caller."""
        seconds = self.broker.timing.close_seconds
        self.recorder.stop()
        self.consumer.quit()
        await self.recorder.over(seconds)
        if self.submitter is not None:
            await self.submitter.close(seconds)
        await self.consumer.close(seconds, caller)
        await self.consumer.leave()
        await self.broker.server.close()

    async def leave(self, error: BaseException | None, caller: asyncio.Task[Any] | None) -> None:
        """Stop and close, at the end of a block. An error of the stop does not replace one of the block."""
        try:
            await self.stop()
        except Exception as ours:
            if error is None:
                raise
            log.error("%s: it could not be stopped: %s", self.name, message(ours))  # noqa: TRY400
        finally:
            await self.close(caller)
