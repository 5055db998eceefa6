"""Room for events: records within the batcher's bounds, and waits while there is no room."""

from __future__ import annotations

import time
from collections.abc import Callable

from microbatch.broker.broker import CommonBroker
from microbatch.broker.errors import BatcherFull
from microbatch.broker.transport.request import Request, Steps
from microbatch.broker.transport.verb import S_co


def record_when_there_is_room(
    broker: CommonBroker[S_co], record: Callable[[], Request[int] | Steps[int]], until: float
) -> Steps[int]:
    """The answer of ``record``, which is asked again when events were cut, up to a monotonic time.

    Raises BatcherFull: there was no room until then.
    """
    progress = broker.progress()
    is_open = False
    while True:
        try:
            return (yield from record())
        except BatcherFull:
            left = until - time.monotonic()
            if left <= 0:
                raise
        if is_open:
            yield from progress.wait.asked(int(left * 1000))
        else:  # before the next look, so that any later change ends the wait
            yield from progress.open.asked()
            is_open = True
