"""The app of the trial: each batch becomes rows of a database, which may be away."""

from __future__ import annotations

import os

import psycopg

from microbatch.producer import Config

DSN, POISON = "OUTAGE_DSN", -1


def store(batch: list[int]) -> None:
    """Store numbers; a negative one has the database refuse the whole batch."""
    with psycopg.connect(os.environ[DSN]) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO numbers VALUES (%s) ON CONFLICT DO NOTHING", [(number,) for number in batch]
        )


config = Config(name="outage", batch_processor=store, frequency=250, max_size=30)
"""All but the name and the sizes is as an application has it that sets nothing."""
