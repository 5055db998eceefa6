"""Events that want a reply, and the replies to them, for tests of each step."""

from __future__ import annotations

import json
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.producer.pending import outcome_of
from microbatch.producer.submission import Submission
from tests.unit.steps import CUT_AT_MS, RECORDED_AT_MS, cut

EXPIRED_MS = CUT_AT_MS - 1
"""A time of expiry that is over when `cut` cuts."""


class Client:
    """A client that submits events without threads, and reads what becomes of them."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.stream = ReplyStream(broker.server, broker.keys)
        self.stream.open()
        self.key = broker.keys.reply(self.stream.client)
        self._number = 0

    def encoded(self, value: object, expires_at_ms: int | None = None) -> bytes:
        """The next event as it is stored. The events' numbers are 1, 2, 3, …"""
        self._number += 1
        body = json.dumps(value).encode()
        expires = None if expires_at_ms is None else (expires_at_ms - RECORDED_AT_MS) / 1000
        submission = Submission(self._number, body, RECORDED_AT_MS, expires=expires)
        return submission.encode(self.stream.client)

    def submit(self, *values: object, expires_at_ms: int | None = None) -> None:
        self._broker.events.record([self.encoded(value, expires_at_ms) for value in values])

    def submit_and_cut(self, *values: object) -> str:
        """Submit events and cut them into one batch. Returns its id."""
        self.submit(*values)
        return cut(self._broker, len(values))[0].id

    def replies(self) -> dict[int, Any]:
        """The replies that have come since the last call: values and errors, by the numbers of the events."""
        found = self.stream.read(1)
        assert found is not None, "the stream is gone"
        assert len(found) == len(dict(found)), f"an event got two replies: {found}"
        return {number: outcome_of(raw) for number, raw in found}
