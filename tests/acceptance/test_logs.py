"""The log at the default level never has a password or the content of an event."""

from __future__ import annotations

from pathlib import Path

from microbatch.producer import Config, start
from tests.conftest import Command, MakeServer
from tests.waiting import wait_until

KEY = "mb:{letters}:"
PASSWORD = "hunter2/hunter2"
SECRET = "4111-1111"

# Whatever fails, the error quotes the events.
APP = """\
from microbatch.producer import BatchInfo, Config, PartialFailure

def total(batch: list[str], info: BatchInfo) -> object:
    if any("flaky" in event for event in batch) and info.attempt == 1:
        raise OSError(f"not now: {batch}")
    if any("part" in event for event in batch):
        raise PartialFailure({n: ValueError(f"no {event}") for n, event in enumerate(batch)})
    if any("named" in event for event in batch):
        raise PartialFailure({n: f"no {event}" for n, event in enumerate(batch)})
    if any("poison" in event for event in batch):
        raise ValueError(f"poison: {batch}")
    if any("strange" in event for event in batch):
        return {"of": batch, "no JSON": object()}
    if any("end" in event for event in batch):
        raise SystemExit(f"the end: {batch}")
    return batch

config = Config(
    name="letters", batch_processor=total, frequency=50, max_size=4, max_retries=1, retry_delay=0.05
)
"""
KINDS = ["good", "flaky", "part", "named", "poison", "strange", "end"]

# It has no handler for dead batches, so these are logged. Some of its events are refused.
PRODUCER = """\
import logging, sys
from microbatch.broker.errors import EncodeError
from microbatch.producer import start
from app import config

logging.basicConfig(level="INFO")
with start(config, linger=5) as mb:
    for kind in sys.argv[2:]:
        mb.record_events([f"{sys.argv[1]} {kind}"] * 2)
        mb.record_event(f"{sys.argv[1]} {kind}")
    for event in ({"event": sys.argv[1], "no JSON": object()}, sys.argv[1] * 1_000_000):
        try:
            mb.record_event(event)
        except EncodeError as error:
            print("refused:", error)
    mb.flush()
    mb.stop()
    mb.wait_for_results()
"""


def test_no_log_has_a_password_or_an_event(command: Command, make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server("valkey", tcp=True, password=PASSWORD)
    (tmp_path / "app.py").write_text(APP)
    url, admin = server.url, server.admin
    scheduler = command("microbatch", "scheduler", "app.py", url=url)
    worker = command("microbatch", "worker", "app.py", url=url)
    admin.rpush(KEY + "events", f"{SECRET} is no event")
    admin.xadd(KEY + "results", {SECRET: SECRET})
    admin.hset("rq:job:forged", mapping={"created_at": "2026-01-01T00:00:00Z", "data": SECRET})
    admin.rpush("rq:queue:mb:letters", "forged")
    (tmp_path / "producer.py").write_text(PRODUCER)
    producer = command("python", "producer.py", SECRET, *KINDS, url=url)
    with start(Config(name="letters", redis_url=url)) as mb:

        def others_succeed() -> bool:
            """If nothing succeeds, batches are held back instead of dying."""
            mb.record_event(f"{SECRET} good")
            return not producer.running

        wait_until(others_succeed, 60, lambda: producer.output)
    assert producer.wait() == 0, producer.output
    operators = [
        command("microbatch", *words, url=url)
        for words in (
            ("status", "letters"), ("verify", "letters"), ("flush", "letters"),
            ("dead", "replay", "letters", "--error", "poison"), ("dead", "purge", "letters", "--all"),
        )
    ]  # fmt: skip
    for operator in operators:
        operator.wait()
    wait_until(lambda: "dead at attempt" in worker.output)
    told = [line for line in producer.lines if "is dead at attempt" in line]  # one line a minute of each kind
    for error in ("ValueError", "EncodeError", "SystemExit", "DecodeError"):
        assert any(f": {error}; " in line for line in told), producer.output
    assert sum("refused:" in line for line in producer.lines) == 2
    for process in (scheduler, worker, producer, *operators):
        assert process.lines
        assert "hunter2" not in process.output
        assert SECRET not in process.output
