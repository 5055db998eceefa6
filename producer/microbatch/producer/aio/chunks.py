"""Chunks of events, from a plain or an async iterable."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

from microbatch.broker.wire import codec
from microbatch.producer.recorder import CHUNK_BYTES


async def chunks_of(
    events: Iterable[object] | AsyncIterable[object], most: int
) -> AsyncIterator[list[bytes]]:
    """The JSON of the events, in chunks of up to ``most`` events or about 1 MB.

    Raises EncodeError, if an event has no JSON, in place of the chunk that it would be in.
    """
    if not isinstance(events, AsyncIterable):
        more = iter(events)
        while chunk := codec.encode_some(more, most, CHUNK_BYTES):
            yield chunk
        return
    bodies: list[bytes] = []
    size = 0
    async for event in events:
        bodies.append(body := codec.encode(event))
        size += len(body)
        if len(bodies) >= most or size >= CHUNK_BYTES:
            yield bodies
            bodies, size = [], 0
    if bodies:
        yield bodies
