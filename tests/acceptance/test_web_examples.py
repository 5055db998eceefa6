"""The examples of web services, run as they say, with real HTTP and a real database."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from microbatch.broker.app.loading import load_config
from tests.conftest import Command
from tests.outage.postgres import Postgres, find_programs
from tests.programs import missing

EXAMPLES = Path(__file__).parents[2] / "examples"
BULK_INSERT = EXAMPLES / "bulk_insert.py"
INFERENCE = EXAMPLES / "inference.py"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if find_programs() is None:
        missing("postgresql", "PostgreSQL is not installed (Debian: postgresql)")
    with TemporaryDirectory(prefix="mb-postgres-") as folder:
        Path(folder).chmod(0o755)  # run by root, the server has a user of its own
        with Postgres(Path(folder) / "server") as server:
            yield server


def post(host: str, path: str, body: object) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, timeout=30)
    with closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.load(reply)


def test_each_request_gets_the_number_of_its_own_order(command: Command, postgres: Postgres) -> None:
    env = {"BULK_INSERT_DSN": postgres.dsn}
    stack = command("microbatch", "up", BULK_INSERT, env=env)
    url = stack.wait_for_line(r"MICROBATCH_REDIS_URL=(\S+)")[1]
    words = ("--app-dir", EXAMPLES, "--port", "0", "bulk_insert:app")
    service = command("uvicorn", *words, url=url, env=env)
    host = service.wait_for_line(r"running on http://(127\.0\.0\.1:\d+)")[1]

    sent = [{"customer": f"customer {number}", "cents": number} for number in range(1, 101)]
    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(lambda order: post(host, "/orders", order), sent))
    with psycopg.connect(postgres.dsn) as database:
        stored: dict[int, int] = dict(database.execute("SELECT number, cents FROM orders").fetchall())
    assert [status for status, _ in replies] == [200] * 100
    assert [stored[reply["number"]] for _, reply in replies] == list(range(1, 101))
    assert len(stored) == 100

    status, reply = post(host, "/orders", {"customer": "free of charge", "cents": 0})
    assert status == 422
    assert "orders_cents_check" in reply["detail"]
    service.terminate()
    service.wait_for_line("Application shutdown complete")
    stack.interrupt()
    stack.wait()


def test_a_batch_of_orders_that_is_run_twice_is_stored_once(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULK_INSERT_DSN", postgres.dsn)
    insert = load_config(str(BULK_INSERT)).batch_processor
    module = insert.__globals__
    with psycopg.connect(postgres.dsn) as database:
        database.execute(module["TABLE"])
    orders = [module["Order"](uuid.uuid4(), f"customer {cents}", cents) for cents in (1, 2, 3)]
    first = insert(orders)
    assert insert(orders) == first
    assert sorted(first) == [0, 1, 2]
    with psycopg.connect(postgres.dsn) as database:
        assert database.execute("SELECT count(*) FROM orders").fetchone() == (3,)


def test_each_request_gets_its_own_prediction(command: Command) -> None:
    stack = command("microbatch", "up", INFERENCE)
    url = stack.wait_for_line(r"MICROBATCH_REDIS_URL=(\S+)")[1]
    service = command("uvicorn", "--app-dir", EXAMPLES, "--port", "0", "inference:app", url=url)
    host = service.wait_for_line(r"running on http://(127\.0\.0\.1:\d+)")[1]

    flowers = [{"width": 1 + number / 20, "length": 0.1 + number / 50} for number in range(100)]
    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(lambda flower: post(host, "/predictions", flower), flowers))
    predict = load_config(str(INFERENCE)).batch_processor
    flower_of = predict.__globals__["Flower"]
    # A batch may round a number otherwise than another one.
    assert [(status, rounded(reply)) for status, reply in replies] == [
        (200, rounded(alone)) for flower in flowers for alone in predict([flower_of(**flower)])
    ]
    assert len({rounded(reply) for _, reply in replies}) > 50
    service.terminate()
    service.wait_for_line("Application shutdown complete")
    stack.interrupt()
    stack.wait()


def rounded(prediction: dict[str, float]) -> tuple[float, ...]:
    return tuple(round(likely, 6) for likely in prediction.values())
