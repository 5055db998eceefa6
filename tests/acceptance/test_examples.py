"""The examples, run as the README says."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.app.loading import load_config
from microbatch.broker.wire.header import Trigger
from microbatch.producer import BatchInfo
from tests.conftest import Command

EXAMPLES = Path(__file__).parents[2] / "examples"
ACCESS_LOG = EXAMPLES / "access_log.py"
SAMPLE = EXAMPLES / "data" / "access.log"

STATUS = re.compile(rb'" (\d{3}) \d+ "')
LINE = '192.0.2.7 - ada [06/Oct/2025:12:00:01 +0200] "GET /?q=\\"x\\" HTTP/1.1" 200 512 "-" "curl \\"q\\" 8"'


def query(database: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


def table(lines: Sequence[str]) -> dict[str, int]:
    """The last table that the handler has printed."""
    start = max(number for number, line in enumerate(lines) if line.startswith("status "))
    rows = (line.split() for line in lines[start + 1 :])
    return {row[0]: int(row[1].replace(",", "")) for row in rows if len(row) == 2}


def test_letters(command: Command) -> None:
    letters = command("microbatch", "run", EXAMPLES / "letters.py")
    assert letters.wait() == 0, letters.output
    totals = [re.fullmatch(r"batch total (\d+)", line) for line in letters.stdout]
    # There are two batches if a tick came in between.
    assert sum(int(total[1]) for total in totals if total) == 13
    assert None not in totals


def test_the_access_log_is_in_the_database(command: Command, tmp_path: Path) -> None:
    stack = command("microbatch", "up", ACCESS_LOG, cwd=tmp_path)
    url = stack.wait_for_line(r"MICROBATCH_REDIS_URL=(\S+)")[1]
    recorder = command("microbatch", "record", ACCESS_LOG, "--lines", SAMPLE, url=url)
    assert recorder.wait() == 0, recorder.output
    results = command("microbatch", "results", ACCESS_LOG, "--handle", url=url)
    assert results.wait() == 0, results.output

    lines = SAMPLE.read_bytes().splitlines()
    statuses = [match[1].decode() for line in lines if (match := STATUS.search(line))]
    expected = {status: statuses.count(status) for status in statuses} | {"rejected": 2, "all": len(lines)}
    assert table(results.stdout) == expected

    database = tmp_path / "access_log.db"
    stored = query(database, "SELECT status, count(*) FROM requests GROUP BY status")
    assert {str(status): count for status, count in stored} == {
        status: count for status, count in expected.items() if status.isdecimal()
    }
    assert query(database, "SELECT sum(lines) FROM batches") == [(len(lines),)]
    rejected = [line for (line,) in query(database, "SELECT line FROM rejected")]
    assert sorted(line[:17] for line in rejected)[1] == "198.51.100.23 - -"
    assert len(rejected) == 2

    stack.interrupt()
    stack.wait()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCESS_LOG_DB", str(tmp_path / "requests.db"))
    return tmp_path / "requests.db"


def test_a_batch_that_is_run_twice_is_stored_once(database: Path) -> None:
    store = load_config(str(ACCESS_LOG)).batch_processor
    at = datetime(2025, 10, 6, tzinfo=UTC)

    def batch(name: str, attempt: int) -> BatchInfo:
        return BatchInfo(name, "access_log", Trigger.TICK, 2, attempt, at, at)

    first = store([LINE, "nonsense"], batch("b1", 1))
    assert store([LINE, "nonsense"], batch("b1", 2)) == first == {"200": 1, "rejected": 1}
    assert query(database, "SELECT count(*) FROM requests") == [(1,)]
    assert query(database, "SELECT batch, line FROM rejected") == [("b1", "nonsense")]
    # The same line in another batch is another request.
    store([LINE], batch("b2", 1))
    assert query(database, "SELECT batch, host, user, at, status, bytes FROM requests ORDER BY batch") == [
        ("b1", "192.0.2.7", "ada", "2025-10-06T12:00:01+02:00", 200, 512),
        ("b2", "192.0.2.7", "ada", "2025-10-06T12:00:01+02:00", 200, 512),
    ]


def test_a_batch_that_fails_stores_nothing(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = load_config(str(ACCESS_LOG)).batch_processor
    at = datetime(2025, 10, 6, tzinfo=UTC)
    batch = BatchInfo("b1", "access_log", Trigger.TICK, 1, 1, at, at)
    store([LINE], batch)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON requests BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
        connection.commit()
    with pytest.raises(sqlite3.IntegrityError, match="disk is full"):
        store([LINE], BatchInfo("b2", "access_log", Trigger.TICK, 1, 1, at, at))
    assert query(database, "SELECT id FROM batches") == [("b1",)]
