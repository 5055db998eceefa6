"""The same calls with Ray Serve: a deployment for batches of numbers, whose caller awaits its own result.

As a program, it starts Ray, and then makes calls each time it reads a line with the numbers of callers and
of calls. For each line it prints how long the calls took, in milliseconds, as JSON. Calls go through a
handle, without HTTP. Ray keeps all its files in the folder that BENCH_FOLDER names, and listens on the
loopback interface only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from typing import Any

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # on each system: no cluster, so the node's address is 127.0.0.1
    RAY_SERVE_THROUGHPUT_OPTIMIZED="1",
    RAY_SERVE_ENABLE_DIRECT_INGRESS="0",  # no HTTP
)

import ray  # type: ignore[import-not-found]
from ray import serve

MOST_CALLERS = 1_000


def listen_on_loopback() -> None:
    """Make a replica's server for calls, which would listen on all interfaces, listen on this one."""
    from ray.serve._private import replica  # type: ignore[import-not-found]  # noqa: PLC0415

    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _address: add(server, "127.0.0.1:0")


class NextNumber:
    @serve.batch(max_batch_size=100, batch_wait_timeout_s=0.001)  # type: ignore[untyped-decorator]
    async def __call__(self, numbers: list[int]) -> list[int]:
        return [number + 1 for number in numbers]


async def calls(handle: Any, callers: int, count: int) -> dict[str, object]:
    numbers = iter(range(count))

    async def caller() -> list[float]:
        return [await call(handle, number) for number in numbers]

    begun = time.perf_counter()
    took = [one for some in await asyncio.gather(*(caller() for _ in range(callers))) for one in some]
    return {"seconds": time.perf_counter() - begun, "took": took}


async def call(handle: Any, number: int) -> float:
    begun = time.perf_counter()
    if await handle.remote(number) != number + 1:
        raise ValueError("a wrong answer")
    return (time.perf_counter() - begun) * 1000


async def main() -> None:
    handle = serve.get_app_handle("default")
    await call(handle, 0)
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(json.dumps(await calls(handle, *map(int, line.split()))))


def say(line: str) -> None:
    print(line, file=sys.__stdout__, flush=True)


def start() -> None:
    """Start Ray, and the deployment on it."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,  # the least is 75 MB; no call uses it
        runtime_env={"worker_process_setup_hook": listen_on_loopback},
        _node_ip_address="127.0.0.1",
        _temp_dir=os.environ["BENCH_FOLDER"],
    )
    serve.start(proxy_location="Disabled")
    deploy = serve.deployment(
        num_replicas=2, max_ongoing_requests=2 * MOST_CALLERS, ray_actor_options={"num_cpus": 0.1}
    )
    serve.run(deploy(NextNumber).bind())


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):  # Ray may print, too
        start()
        asyncio.run(main())
        ray.shutdown()
