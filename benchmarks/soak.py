"""The soak: a steady rate for minutes, after which nothing may have grown.

    make soak                 ten minutes
    make soak SECONDS=60      one minute

It runs a real server with its append-only file, a scheduler, two workers, a producer and a consumer. One
batch in a hundred fails at first and is tried again. Every few seconds, the soak notes the server's memory
and number of keys, and the resident memory of each process. At the end, it compares the last quarter with the
second: the first is for warming up.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from microbatch.broker.broker import Broker
from microbatch.broker.transport.request import info
from microbatch.ops.local.stack import Stack
from microbatch.producer import BatchInfo, Config, start

RATE = 500
EVERY_SECONDS = 2.0
ALLOWED_GROWTH = 0.05
ALLOWED_BYTES = 1_000_000
ALLOWED_KEYS = 50  # the number of jobs of the last ten seconds varies


def process(batch: list[int], info: BatchInfo) -> int:
    if info.attempt == 1 and info.id.endswith(("00", "55", "aa")):
        raise OSError("away for a moment")
    return sum(batch)


config = Config(name="soak", batch_processor=process, frequency=100, max_size=100, retry_delay=0.5)


@dataclass(frozen=True)
class Sample:
    """The state at one moment."""

    server_bytes: int
    keys: int
    resident_bytes: dict[str, int]


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(below for child in children for below in family(child))]


def command_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return " ".join(word.decode() for word in words[1:5] if not word.startswith(b"/"))


def sample(broker: Broker, own_pid: int) -> Sample:
    memory = broker.server.perform(info("memory"))["used_memory"]
    found = {f"{pid} {command_of(pid)}": resident_bytes(pid) for pid in family(own_pid)}
    return Sample(int(memory), int(broker.server.do("DBSIZE")), found)


def growth(samples: list[Sample]) -> list[tuple[str, float, float, float]]:
    """For each figure: its median in the second quarter and in the last, and how much growth is allowed."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    rows = [
        ("server memory, bytes", median(s.server_bytes for s in early), median(s.server_bytes for s in late)),
        ("keys", median(s.keys for s in early), median(s.keys for s in late)),
    ]
    for name in late[-1].resident_bytes:
        before = median(s.resident_bytes.get(name, 0) for s in early)
        rows.append((f"process {name}, bytes", before, median(s.resident_bytes.get(name, 0) for s in late)))
    return [
        (name, before, after, ALLOWED_KEYS if name == "keys" else before * ALLOWED_GROWTH + ALLOWED_BYTES)
        for name, before, after in rows
    ]


def main(seconds: float, own_pid: int) -> int:
    handled: list[int] = []
    with Stack(__file__, config, workers=2) as stack:
        mine = stack.config.model_copy(update={"result_handler": handled.append})
        broker, samples, recorded = Broker(mine), [], 0
        with start(mine) as batcher:
            consumer = threading.Thread(target=batcher.wait_for_results)
            consumer.start()
            begun = sampled = time.monotonic()
            while (now := time.monotonic()) - begun < seconds:
                while recorded < (now - begun) * RATE:
                    batcher.record_event(recorded)
                    recorded += 1
                if now - sampled >= EVERY_SECONDS:
                    samples.append(sample(broker, own_pid))
                    sampled = now
                    print(f"{now - begun:6.0f} s  {recorded:>8,} events", end="\r")
                time.sleep(0.002)
            batcher.stop()
            consumer.join()
    print(f"{seconds:,.0f} s, {recorded:,} events, {len(handled):,} results" + " " * 20)
    grown = 0
    for name, before, after, allowed in growth(samples):
        flat = after - before <= allowed
        grown += not flat
        print(f"{name:<70} {before:>14,.0f} {after:>14,.0f}  {'flat' if flat else 'GROWN'}")
    if sum(handled) != sum(range(recorded)):
        print("the results do not add up")
        return 1
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0, os.getpid()))
