"""Stores a web server's access log in SQLite, in batches. Reads nginx's and Apache's combined format.

    microbatch up examples/access_log.py
    microbatch record examples/access_log.py --lines examples/data/access.log
    microbatch results examples/access_log.py --handle

The workers write to access_log.db in their current folder, or to what ACCESS_LOG_DB names.
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime

from microbatch.producer import BatchInfo, Config

QUOTED = r'"((?:[^"\\]|\\.)*)"'
COMBINED = re.compile(rf"(\S+) \S+ (\S+) \[([^]]+)\] {QUOTED} (\d{{3}}) (\d+|-) {QUOTED} {QUOTED}")

TABLES = {
    "batches": "id TEXT PRIMARY KEY, cut_at TEXT, lines INTEGER",
    "requests": "batch TEXT, host TEXT, user TEXT, at TEXT, request TEXT, status INTEGER, bytes INTEGER, "
    "referer TEXT, agent TEXT",
    "rejected": "batch TEXT, line TEXT",
}


def store(lines: list[str], batch: BatchInfo) -> dict[str, int]:
    """The processor. Inserts a batch in one transaction, and returns how many lines had each status.

    A batch may be run twice, for instance when its worker is killed after the transaction and before the
    batch is committed. So each transaction stores the batch's id: the second run finds it and inserts
    nothing. The counts are taken from the lines, so both runs return the same.
    """
    requests, rejected = [], []
    for line in lines:
        try:
            requests.append(parse(line))
        except ValueError:
            rejected.append(line)
    with transaction() as database:
        noted = database.execute(
            "INSERT INTO batches VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (batch.id, batch.cut_at.isoformat(), batch.size),
        )
        if noted.rowcount:
            database.executemany(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(batch.id, *request) for request in requests],
            )
            database.executemany(
                "INSERT INTO rejected VALUES (?, ?)", [(batch.id, line) for line in rejected]
            )
    counts = Counter(str(status) for _, _, _, _, status, *_ in requests)
    if rejected:
        counts["rejected"] = len(rejected)
    return counts


def parse(line: str) -> tuple[str, str, str, str, int, int, str, str]:
    """The fields of one line, in the table's order. Raises ValueError if it is not of the combined format."""
    match = COMBINED.fullmatch(line)
    if match is None:
        raise ValueError("not a line of the combined format")
    host, user, time_, request, status, size, referer, agent = match.groups()
    at = datetime.strptime(time_, "%d/%b/%Y:%H:%M:%S %z")
    return host, user, at.isoformat(), request, int(status), 0 if size == "-" else int(size), referer, agent


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """One transaction, done whole or not at all. SQLite has one writer at a time; others wait up to 30 s."""
    path = os.environ.get("ACCESS_LOG_DB", "access_log.db")
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
        with suppress(sqlite3.OperationalError):  # another worker is changing the mode at this moment
            database.execute("PRAGMA journal_mode = WAL")  # readers don't wait for the writer
        with database:  # commits, or rolls back after an exception
            database.execute("BEGIN IMMEDIATE")
            for table, columns in TABLES.items():
                database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            yield database


class Tally:
    """The handler. Adds up the counts, and shows them at most once a second and at the end."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.shown_at = 0.0

    def run(self, counts: dict[str, int]) -> None:
        if not self.counts:
            self.shown_at = time.monotonic()
            atexit.register(self.show)
        self.counts.update(counts)
        if time.monotonic() - self.shown_at >= 1:
            self.show()

    def show(self) -> None:
        print(f"{'status':<9}{'lines':>8}")
        for status, count in sorted(self.counts.items()):
            print(f"{status:<9}{count:>8,}")
        print(f"{'all':<9}{self.counts.total():>8,}", flush=True)
        self.shown_at = time.monotonic()


config = Config(
    name="access_log", batch_processor=store, result_handler=Tally(), frequency=1000, max_size=500
)
