"""The app of the trial: each batch becomes rows of a database, which may be away."""

from __future__ import annotations

import os

import psycopg

from microbatch.producer import Config

DSN, POISON = "OUTAGE_DSN", -1


def store(batch: list[int]) -> None:
    """Store numbers. The database refuses the whole batch if it contains a negative number."""
    with psycopg.connect(os.environ[DSN]) as connection:
        connection.execute("INSERT INTO numbers SELECT unnest(%s::integer[]) ON CONFLICT DO NOTHING", [batch])


config = Config(name="outage", batch_processor=store, frequency=250)
"""Only the name and the frequency differ from the settings of an application that sets nothing."""
