"""Own results in asyncio: each caller gets the result of its own event, whatever happens to the others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.errors import (
    AlreadyRecorded,
    Closed,
    ConfigError,
    EncodeError,
    EventExpired,
    EventFailed,
    ReplyLost,
    Stopped,
    TooManyPending,
    WrongLoop,
)
from microbatch.producer import AsyncMicroBatcher, connect
from tests.fleet import Fleet
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("events", "wake", "inflight", "batch", "seen", "dead", "reply")

# Each event comes back doubled; a text fails, and "reject" fails at once.
DOUBLES = """
from microbatch.producer import Reject

def process(batch):
    return [
        Reject("no") if event == "reject" else ValueError(event) if isinstance(event, str) else 2 * event
        for event in batch
    ]
"""
SETTINGS = {"per_event": True, "frequency": 20, "max_retries": 0, "retry_delay": 0.0}


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: these clients send what the clients of threads send, tested on both."""
    return valkey_server


@pytest.fixture
def fleet(server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server, tmp_path, DOUBLES, **SETTINGS) as fleet:
        yield fleet


@pytest.fixture
def working(fleet: Fleet) -> Fleet:
    """With a scheduler and a worker."""
    fleet.scheduler()
    fleet.worker()
    return fleet


def run(fleet: Fleet, call: Any, **settings: Any) -> Any:
    """Run ``call(mb)`` in the block of a client."""

    async def main() -> Any:
        async with connect(fleet.config(**settings)) as mb:
            return await call(mb)

    return asyncio.run(main())


def test_each_caller_gets_the_result_of_its_own_event(working: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> Any:
        return await asyncio.gather(*(mb.submit(number, timeout=30) for number in range(2_000)))

    assert run(working, call) == [2 * number for number in range(2_000)]


def test_callers_that_are_cancelled_leave_no_reply_to_others(working: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> int:
        kept = 0
        for start in range(0, 5_000, 500):
            tasks = [asyncio.create_task(mb.submit(number)) for number in range(start, start + 500)]
            for turn, task in enumerate(tasks):
                if turn % 3:
                    task.cancel()
                if turn % 50 == 0:
                    await asyncio.sleep(0)
            for number, task in enumerate(tasks, start):
                with suppress(asyncio.CancelledError):
                    assert await task == 2 * number
                    kept += 1
        return kept

    assert run(working, call) >= 1_600


def test_an_event_that_fails_raises_its_own_error_and_no_other_does(working: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> list[Any]:
        events = (1, "bad", "reject", 2)
        return await asyncio.gather(
            *(mb.submit(event, timeout=30) for event in events), return_exceptions=True
        )

    one, bad, rejected, two = run(working, call)
    assert (one, two) == (2, 4)
    assert isinstance(bad, EventFailed)
    assert (bad.error, bad.attempts) == ("ValueError: bad", 1)
    assert isinstance(rejected, EventFailed)
    assert rejected.error == "no"


def test_an_event_expires_that_is_too_old_when_it_is_cut(fleet: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        submitted = asyncio.create_task(mb.submit(1, expires=0.001))
        await asyncio.to_thread(wait_until, lambda: fleet.broker.events.waiting() == 1)
        await asyncio.sleep(0.01)
        fleet.scheduler()
        fleet.worker()
        with pytest.raises(EventExpired):
            await submitted

    run(fleet, call)
    assert fleet.broker.stats.counters().expired_events == 1
    assert fleet.broker.stats.counters().done_events == 0


def test_many_callers_whose_events_expire_ask_for_the_time_once(server: RealServer, fleet: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        calls = [asyncio.create_task(mb.submit(number, expires=60)) for number in range(50)]
        await asyncio.to_thread(wait_until, lambda: fleet.broker.events.waiting() == 50)
        assert server.admin.info("commandstats")["cmdstat_time"]["calls"] == 1
        for task in calls:
            task.cancel()

    server.admin.config_resetstat()
    run(fleet, call)


def test_the_wait_is_bounded_by_the_timeout_and_the_event_is_processed(fleet: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        submitted = asyncio.create_task(mb.submit(1, timeout=1))
        await asyncio.to_thread(wait_until, lambda: fleet.broker.events.waiting() == 1)
        with pytest.raises(TimeoutError, match="no reply came within the timeout"):
            await submitted

    run(fleet, call)
    assert fleet.broker.events.waiting() == 1


@pytest.mark.parametrize("expires", [None, 30])
def test_the_wait_is_bounded_while_the_server_is_away(
    server: RealServer, fleet: Fleet, expires: float | None
) -> None:
    """Nothing can be sent, so the error would be that of the connection, much later."""

    async def call(mb: AsyncMicroBatcher) -> None:
        server.pause()
        try:
            with pytest.raises(TimeoutError, match="no reply came within the timeout"):
                await mb.submit(1, timeout=0.3, expires=expires)
        finally:
            server.resume()
        await mb.flush()
        assert fleet.broker.events.waiting() == 0

    run(fleet, call)


def test_an_id_that_was_seen_raises_at_once(working: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        assert await mb.submit(1, id="one", timeout=30) == 2
        with pytest.raises(AlreadyRecorded):
            await mb.submit(1, id="one")

    run(working, call, dedupe_window=60)


def test_no_more_replies_are_waited_for_than_the_settings_say(fleet: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        pending = [asyncio.create_task(mb.submit(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyPending, match="3 replies are waited for"):
            await mb.submit(4)
        pending[0].cancel()
        await asyncio.gather(pending[0], return_exceptions=True)
        with pytest.raises(TimeoutError):
            await mb.submit(5, timeout=0.05)
        for task in pending:
            task.cancel()

    run(fleet, call, max_pending=3)


def test_replies_that_are_lost_with_the_server_s_data_fail_their_callers(
    server: RealServer, fleet: Fleet
) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        submitted = asyncio.create_task(mb.submit(1))
        await asyncio.to_thread(wait_until, lambda: fleet.broker.events.waiting() == 1)
        server.admin.flushall()
        with pytest.raises(ReplyLost):
            await submitted
        fleet.scheduler()
        fleet.worker()
        assert await mb.submit(2, timeout=30) == 4  # over a stream of its own

    run(fleet, call)


CLIENT = """
import asyncio
from microbatch.producer import Config, connect
from tests.times import hurry_for_good

hurry_for_good(reply_ttl_ms=1_500)

async def main():
    async with connect(Config(batch_processor=print)) as mb:
        try:
            print("told", await mb.submit(1), flush=True)
        except Exception as error:
            print("told", type(error).__name__, flush=True)
        print("then", await mb.submit(2), flush=True)

asyncio.run(main())
"""


def test_a_client_that_was_frozen_for_too_long_is_told_that_its_reply_is_lost(fleet: Fleet) -> None:
    client = fleet.run(CLIENT)
    wait_until(lambda: fleet.broker.events.waiting() == 1, message=fleet.state)
    client.send(signal.SIGSTOP)
    wait_until(lambda: fleet.broker.server.do("KEYS", fleet.broker.keys.reply("*")) == [])
    fleet.scheduler()
    fleet.worker()
    wait_until(lambda: fleet.broker.stats.counters().done_events == 1, message=fleet.state)
    client.send(signal.SIGCONT)
    client.wait_for_line("told ReplyLost")
    client.wait_for_line("then 4")
    assert client.wait() == 0


def test_an_event_in_doubt_is_settled_by_its_reply(server: RealServer, working: Fleet) -> None:
    with Proxy(server) as proxy:

        async def call(mb: AsyncMicroBatcher) -> None:
            assert await mb.submit(1, timeout=30) == 2
            proxy.eat_reply_to("RPUSH", "events")
            assert await mb.submit(2, timeout=30) == 4
            assert proxy.eaten.is_set()

        run(working, call, redis_url=proxy.url)


def test_closing_fails_what_is_pending(server: RealServer, fleet: Fleet) -> None:
    async def main() -> None:
        async with connect(fleet.config()) as mb:
            submitted = asyncio.create_task(mb.submit(1))
            await asyncio.to_thread(wait_until, lambda: fleet.broker.events.waiting() == 1)
        with pytest.raises(Closed):
            await submitted

    asyncio.run(main())
    assert not server.admin.keys("*reply*")


def test_after_a_stop_nothing_is_submitted_and_what_was_is_answered(working: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        submitted = asyncio.create_task(mb.submit(1, timeout=30))
        await asyncio.sleep(0)
        await mb.stop()
        with pytest.raises(Stopped):
            await mb.submit(2)
        assert await submitted == 2

    run(working, call)


def test_wrong_arguments_are_refused_before_anything_is_sent(fleet: Fleet) -> None:
    async def call(mb: AsyncMicroBatcher) -> None:
        refused: list[tuple[Coroutine[Any, Any, Any], type[Exception]]] = [
            (mb.submit(1, timeout=0), EncodeError),
            (mb.submit(1, expires=-1), EncodeError),
            (mb.submit(1, id="one"), ConfigError),
            (mb.submit(object()), EncodeError),
        ]
        for submitted, error in refused:
            with pytest.raises(error):
                await submitted

    run(fleet, call)

    async def plain(mb: AsyncMicroBatcher) -> None:
        with pytest.raises(ConfigError, match="per_event=True"):
            await mb.submit(1)

    run(fleet, plain, per_event=False)
    assert fleet.broker.events.waiting() == 0


def test_in_another_loop_or_a_forked_child_it_says_so(fleet: Fleet) -> None:
    async def main() -> AsyncMicroBatcher:
        async with connect(fleet.config()) as mb:
            if not (pid := os.fork()):
                with suppress(WrongLoop):
                    await mb.submit(1)
                    os._exit(1)
                os._exit(0)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert status == 0
            return mb

    mb = asyncio.run(main())
    with pytest.raises(WrongLoop):
        asyncio.run(mb.submit(1))
