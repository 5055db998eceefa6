"""Predictions for web requests, by a model that is called with batches. Each request gets its own prediction.

    pip install fastapi uvicorn numpy
    microbatch up examples/inference.py
    uvicorn --app-dir examples inference:app
    curl localhost:8000/predictions --json '{"width": 4.7, "length": 1.4}'

`microbatch up` prints the MICROBATCH_REDIS_URL that uvicorn needs in its environment. Start any number of
workers with `microbatch worker examples/inference.py`, on any host, and any number of web processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from microbatch.producer import AsyncMicroBatcher, Config, EventFailed, NoReply, TooManyPending, connect

KINDS = ("setosa", "versicolor", "virginica")
WEIGHTS = np.array([[-1.6, 0.2, 1.4], [-2.3, 0.4, 1.9]])
BIAS = np.array([9.6, 1.1, -10.7])


class Flower(BaseModel):
    width: float
    length: float


def predict(flowers: list[Flower]) -> list[dict[str, float]]:
    """The processor: one call of the model for a batch, and the probabilities of each flower."""
    features = np.array([(flower.width, flower.length) for flower in flowers])
    scores = features @ WEIGHTS + BIAS
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    return [dict(zip(KINDS, row, strict=True)) for row in likely.tolist()]


# Eager: a batch is cut as soon as a worker is free, and grows while all are busy.
config = Config(name="inference", batch_processor=predict, per_event=True, eager=True, max_size=256)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with connect(config) as app.state.batcher:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/predictions")
async def post_prediction(flower: Flower) -> dict[str, float]:
    batcher: AsyncMicroBatcher = app.state.batcher
    try:
        # A request that nobody waits for any more is left out of its batch.
        prediction: dict[str, float] = await batcher.submit(flower, timeout=5, expires=5)
    except EventFailed as error:
        raise HTTPException(422, error.error) from error
    except (NoReply, TooManyPending, TimeoutError) as error:
        raise HTTPException(503, "no prediction in time", {"Retry-After": "1"}) from error
    return prediction
