"""The same calls with taskiq: a task for each number, whose caller awaits its own result.

As a program, it makes calls from tasks of asyncio, and prints how long each took, in milliseconds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["BENCH_URL"]
CHECK_SECONDS = 0.005
"""How often a caller looks for its result. More often makes all calls slower."""

# Otherwise its workers log each wait for a task that redis-py ends.
broker = ListQueueBroker(URL, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=60)
)


@broker.task(task_name="next_number")  # type: ignore[untyped-decorator]
async def next_number(number: int) -> int:
    return number + 1


async def call(number: int) -> float:
    begun = time.perf_counter()
    task = await next_number.kiq(number)
    result = await task.wait_result(check_interval=CHECK_SECONDS, timeout=60)
    if result.return_value != number + 1:
        raise ValueError("a wrong answer")
    return (time.perf_counter() - begun) * 1000


async def main(callers: int, count: int) -> None:
    await broker.startup()
    numbers = iter(range(count))

    async def caller() -> list[float]:
        return [await call(number) for number in numbers]

    await call(0)
    begun = time.perf_counter()
    took = [one for some in await asyncio.gather(*(caller() for _ in range(callers))) for one in some]
    print(json.dumps({"seconds": time.perf_counter() - begun, "took": took}))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
