"""Submit: many callers at once in one process, each of which waits for the answer to its own event."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks import answers
from benchmarks.measure import Claim, Figures, Scale, System, quantile
from benchmarks.processes import PEERS_PYTHON, ROOT, Program, environment, running, server, wait_until
from benchmarks.tally import check
from microbatch.ops.local.stack import Stack
from microbatch.producer import AsyncMicroBatcher, connect

NAME = "submit"
TITLE = (
    "calls of one process that wait for their own answer, two workers, eager cutting, batches of up to 100"
)
CLAIMS = (
    Claim("calls/s", "Microbatch, 1,000 callers", 10.0, "taskiq, 64 callers"),
    Claim("calls/s", "Microbatch, 1,000 callers", 10.0, "Celery, 64 callers"),
    Claim("p99 ms", "Microbatch, 64 callers", 1.0, "taskiq, 64 callers", at_most=True),
    Claim("calls/s", "Microbatch, 1,000 callers", 10.0, "Ray Serve, 1,000 callers"),
    Claim("p99 ms", "Microbatch, 64 callers", 1.0, "Ray Serve, 64 callers", at_most=True),
)
_CALLS = 10_000
_PEERS_CALLS = 1_000
_OPTIONS = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    found = stack.enter_context(server())
    config = answers.config.model_copy(update={"redis_url": found.url})
    variables = {"MICROBATCH_REDIS_URL": found.url, "MICROBATCH_LOG_LEVEL": "ERROR"}
    stack.enter_context(environment(**variables))
    stack.enter_context(Stack(answers.APP, config, workers=2))

    def microbatch(callers: int, count: int) -> Figures:
        async def main() -> Figures:
            async with connect(config) as mb:
                return await _calls(mb, callers, count)

        return asyncio.run(main())

    yield System("Microbatch, 64 callers", partial(microbatch, 64), first=_CALLS)
    yield System("Microbatch, 1,000 callers", partial(microbatch, 1_000), first=_CALLS)
    for name, module in (("Celery", "celery_answers"), ("taskiq", "taskiq_answers")):
        calls = partial(_peer, _started(stack, name, module), 64)
        yield System(f"{name}, 64 callers", calls, first=_PEERS_CALLS)
    ray_serve = _ray_serve(stack)
    yield System("Ray Serve, 64 callers", partial(ray_serve, 64), first=_PEERS_CALLS)
    yield System("Ray Serve, 1,000 callers", partial(ray_serve, 1_000), first=_PEERS_CALLS)


async def _calls(mb: AsyncMicroBatcher, callers: int, count: int) -> Figures:
    numbers = iter(range(count))

    async def caller() -> list[float]:
        took = []
        for number in numbers:
            begun = time.perf_counter()
            check("the answer", await mb.submit(number, timeout=60), number + 1)
            took.append((time.perf_counter() - begun) * 1000)
        return took

    await mb.submit(0)
    begun = time.perf_counter()
    took = [one for some in await asyncio.gather(*(caller() for _ in range(callers))) for one in some]
    return _figures(took, time.perf_counter() - begun)


def _started(stack: ExitStack, name: str, module: str) -> tuple[str, dict[str, str]]:
    """Start a peer's two worker processes on a server of their own. Returns what its callers need."""
    found = stack.enter_context(server())
    variables = {"BENCH_URL": found.url, "PYTHONWARNINGS": "ignore"}
    app = f"benchmarks.peers.{module}"
    if name == "Celery":
        command = [PEERS_PYTHON, "-m", "celery", "-A", app, "worker", *_OPTIONS, "--concurrency", "2"]
        stack.enter_context(running(*command, **variables))
        wait_until(lambda: int(found.admin.get("ready") or 0) == 1, "Celery's worker")
    else:
        command = [PEERS_PYTHON, "-m", "taskiq", "worker", f"{app}:broker", "--workers", "2"]
        command += ["--log-level", "ERROR"]
        stack.enter_context(running(*command, **variables))
    return app, variables


def _peer(started: tuple[str, dict[str, str]], callers: int, count: int) -> Figures:
    app, variables = started
    with environment(**variables):
        done = subprocess.run(
            [PEERS_PYTHON, "-m", app, str(callers), str(count)],
            cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
    return _told(done.stdout.splitlines()[-1], count)


def _ray_serve(stack: ExitStack) -> Callable[[int, int], Figures]:
    """Start Ray with two replicas. It has no server, and its files are gone when it ends."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mb-bench-"))
    program = Program(PEERS_PYTHON, "-m", "benchmarks.peers.ray_answers", BENCH_FOLDER=folder)
    stack.callback(program.end)

    def calls(callers: int, count: int) -> Figures:
        program.tell(f"{callers} {count}")
        return _told(program.read(), count)

    return calls


def _told(line: str, count: int) -> Figures:
    """The figures of a peer, from what it printed about its calls."""
    found = json.loads(line)
    check("calls", len(found["took"]), count)
    return _figures(found["took"], found["seconds"])


def _figures(took: list[float], seconds: float) -> Figures:
    took = sorted(took)
    return {"calls/s": len(took) / seconds, "median ms": quantile(took, 0.5), "p99 ms": quantile(took, 0.99)}
