"""Inserts orders of web requests into PostgreSQL in batches. Each request gets its own order's number.

    pip install fastapi uvicorn 'psycopg[binary]'
    export BULK_INSERT_DSN="host=localhost dbname=shop user=shop"
    microbatch up examples/bulk_insert.py
    uvicorn --app-dir examples bulk_insert:app
    curl localhost:8000/orders --json '{"customer": "ada", "cents": 1200}'

`microbatch up` prints the MICROBATCH_REDIS_URL that uvicorn needs in its environment.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from microbatch.producer import Config, EventFailed, MicroBatcher, NoReply, match, start

TABLE = """
CREATE TABLE IF NOT EXISTS orders (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key uuid NOT NULL UNIQUE,
    customer text NOT NULL,
    cents integer NOT NULL CHECK (cents > 0)
)
"""
INSERT = "INSERT INTO orders (key, customer, cents) VALUES (%s, %s, %s) ON CONFLICT (key) DO NOTHING"


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(os.environ["BULK_INSERT_DSN"])


@dataclass
class Order:
    key: uuid.UUID
    customer: str
    cents: int


def insert(orders: list[Order]) -> dict[int, int]:
    """The processor: inserts a batch in one transaction, and returns the number of each order.

    A batch may be run twice, for instance when its worker is killed before the batch is committed. The second
    run inserts nothing, because each order has a key of its own, and returns the same numbers.
    """
    with connect() as connection:
        with connection.cursor() as cursor:
            cursor.executemany(INSERT, [(order.key, order.customer, order.cents) for order in orders])
        keys = [order.key for order in orders]
        rows = connection.execute("SELECT key, number FROM orders WHERE key = ANY(%s)", [keys]).fetchall()
    found = match(orders, rows, key="key", row_key=0)
    return {position: number for position, (_key, number) in found.items()}


config = Config(
    name="bulk-insert",
    batch_processor=insert,
    per_event=True,
    frequency=50,
    max_size=500,
    give_up_on=(psycopg.errors.IntegrityError,),  # the order that the table refuses is found at once
)


class NewOrder(BaseModel):
    customer: str
    cents: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with connect() as connection:
        connection.execute(TABLE)
    with start(config) as app.state.batcher:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
def post_order(order: NewOrder) -> dict[str, int]:
    """Store an order. FastAPI runs this on a thread of its own, so it may wait."""
    batcher: MicroBatcher = app.state.batcher
    event = Order(uuid.uuid4(), order.customer, order.cents)
    try:
        return {"number": batcher.submit(event, timeout=10).result()}
    except EventFailed as error:
        raise HTTPException(422, error.error) from error
    except (NoReply, TimeoutError) as error:
        raise HTTPException(504, "the order may or may not be stored") from error
