"""Where the client for asyncio may be used: on its own event loop, in its own process, and nowhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from microbatch.broker.errors import AppError
from microbatch.producer import (
    AsyncMicroBatcher,
    Config,
    ConfigError,
    Refused,
    Unavailable,
    WrongLoop,
    connect,
)
from tests.conftest import MakeServer
from tests.fleet import Fleet
from tests.loops import RUNS, Run, until
from tests.servers import RealServer

pytestmark = pytest.mark.leaves("events", "wake", "results")

FORK = """
import asyncio, os
from microbatch.producer import Config, WrongLoop, connect

async def main():
    async with connect(Config()) as mb:
        await mb.record_event(1)
        pid = os.fork()
        if not pid:
            for call in (mb.record_event(2), mb.stop(), mb.wait_for_results(), mb.close()):
                try:
                    asyncio.Runner().run(call)
                except WrongLoop as error:
                    print(error, flush=True)
            try:
                mb.stop_consuming()
            except WrongLoop as error:
                print(error, flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        await asyncio.gather(*map(mb.record_event, range(10)))
        print("recorded in the parent", flush=True)

asyncio.run(main())
"""

CALLS: dict[str, Callable[[AsyncMicroBatcher], Awaitable[object]]] = {
    "record_event": lambda mb: mb.record_event(1),
    "record_events": lambda mb: mb.record_events([1]),
    "flush": lambda mb: mb.flush(),
    "stop": lambda mb: mb.stop(),
    "wait_for_results": lambda mb: mb.wait_for_results(),
    "close": lambda mb: mb.close(),
}


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: these clients send what the clients of threads send, tested on both."""
    return valkey_server


def letters(server: RealServer, **settings: Any) -> Config:
    return Config(name="letters", redis_url=server.url, **settings)


def on_another_loop(call: Callable[[], Awaitable[object]]) -> BaseException | None:
    """The error of a call on an event loop of another thread."""
    errors: list[BaseException] = []

    async def awaited() -> None:
        await call()

    def run() -> None:
        try:
            asyncio.run(awaited())
        except WrongLoop as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_on_another_event_loop_each_call_raises_at_once(
    valkey_server: RealServer, call: Callable[[AsyncMicroBatcher], Awaitable[object]]
) -> None:
    async def work() -> None:
        async with connect(letters(valkey_server)) as mb:
            error = on_another_loop(lambda: call(mb))
            assert (
                str(error) == "letters: this client was opened in another event loop; connect() in this one"
            )
            await mb.record_event("still works")

    asyncio.run(work())


def test_results_are_not_for_another_event_loop(valkey_server: RealServer) -> None:
    async def work() -> None:
        async with connect(letters(valkey_server)) as mb:
            results = mb.results()
            assert "another event loop" in str(on_another_loop(lambda: anext(results)))

    asyncio.run(work())


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_before_its_block_nothing_can_be_called(
    valkey_server: RealServer, call: Callable[[AsyncMicroBatcher], Awaitable[object]]
) -> None:
    async def work() -> None:
        with pytest.raises(WrongLoop, match="is not open; write `async with connect"):
            await call(connect(letters(valkey_server)))

    asyncio.run(work())


def test_a_client_has_one_block(valkey_server: RealServer) -> None:
    async def work() -> None:
        async with connect(letters(valkey_server)) as mb:
            pass
        with pytest.raises(WrongLoop, match="was opened before"):
            await mb.__aenter__()

    asyncio.run(work())


def test_without_asyncio_it_can_not_be_opened(valkey_server: RealServer) -> None:
    opening = connect(letters(valkey_server)).__aenter__()
    with pytest.raises(WrongLoop, match="needs asyncio"):
        opening.send(None)


def test_in_a_forked_child_each_call_raises_and_the_parent_goes_on(
    server: RealServer, tmp_path: Path
) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(FORK)
        program.wait_for_line("recorded in the parent", timeout=20)
        assert program.wait() == 0, program.output
        told = "letters: this client was opened before a fork; connect() in this process"
        assert [line for line in program.lines if "fork" in line] == [told] * 5
        assert fleet.broker.events.waiting() == 11


def test_an_app_that_connects_while_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from microbatch.broker.app.loading import load_config  # noqa: PLC0415 - it loads what is made here

    app = tmp_path / "app.py"
    app.write_text(
        "from microbatch.producer import Config, connect\n"
        'config = Config(name="letters", redis_url="redis://127.0.0.1:1", batch_processor=sum)\n'
        "connect(config)\n"
    )
    with pytest.raises(AppError, match=r"app\.py, line 3: it calls connect\(\) while it is imported"):
        load_config(str(app))


def test_a_handler_that_can_not_be_called_is_refused_at_once(valkey_server: RealServer) -> None:
    with pytest.raises(ConfigError, match="result_handler takes 0 parameters"):
        connect(letters(valkey_server, result_handler=lambda: None))


def test_a_server_that_is_away_is_waited_for(make_server: MakeServer) -> None:
    server = make_server()
    server.kill()

    async def work() -> None:
        with pytest.raises(Unavailable):
            await connect(letters(server), wait=0.2).__aenter__()
        opening = asyncio.create_task(connect(letters(server)).__aenter__())
        await asyncio.sleep(0.2)
        assert not opening.done()
        server.start()
        mb = await opening
        await mb.record_event(1)
        await mb.close()

    asyncio.run(work())


def test_a_server_that_refuses_is_not_waited_for(make_server: MakeServer) -> None:
    server = make_server()

    async def work() -> None:
        async with asyncio.timeout(20):
            with pytest.raises(Refused, match="password"):
                await connect(letters(server)).__aenter__()

    server.admin.config_set("requirepass", "secret")
    asyncio.run(work())


@pytest.mark.parametrize("run", RUNS.values(), ids=list(RUNS))
def test_a_block_that_is_cancelled_stops_and_closes(server: RealServer, run: Run[None]) -> None:
    async def use(entered: asyncio.Event) -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event(1)
            entered.set()
            await asyncio.Event().wait()

    async def work() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(use(entered))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())
    assert server.admin.hget("mb:{letters}:flushes", "asked") == b"1"
    assert len(server.admin.client_list(_type="normal")) == 1


def test_in_a_cancelled_scope_of_anyio_the_block_stops_and_closes(server: RealServer) -> None:
    """There, each await of a cancelled task is cancelled."""

    async def use(group: anyio.abc.TaskGroup) -> None:
        async with connect(letters(server)) as mb:
            await mb.record_event(1)
            group.start_soon(mb.wait_for_results)
            await until(lambda: server.admin.info("clients")["blocked_clients"] >= 1)
            group.cancel_scope.cancel()
            await mb.record_event(2)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            await use(group)

    anyio.run(work)
    assert server.admin.hget("mb:{letters}:flushes", "asked") == b"1"
    assert len(server.admin.client_list(_type="normal")) == 1
