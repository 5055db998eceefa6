"""Outcomes: the result or the failure of a batch, as an entry on the results stream."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.versioned import VERSION, known_moment


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a batch: the JSON of its result, or the failure that it died of."""

    batch_id: str
    header: Header
    attempt: int
    recorded_at_ms: int
    result: bytes | None = None
    failure: Failure | None = None

    def encode(self) -> list[str | bytes | int | float]:
        """The fields and values of its entry on the stream."""
        body: tuple[str, str | bytes] = (
            ("failure", self.failure.encode())
            if self.failure is not None
            else ("result", self.result or b"null")
        )
        return [
            "v", VERSION, "batch", self.batch_id, "header", self.header.encode(),
            "attempt", self.attempt, "recorded_at", self.recorded_at_ms, *body,
        ]  # fmt: skip

    @classmethod
    def decode(cls, fields: dict[bytes, bytes]) -> Outcome:
        """Raises DecodeError when the entry is not an outcome of this version."""
        if fields.get(b"v") != b"%d" % VERSION:
            raise DecodeError(f"an entry on the results stream is not of version {VERSION}")
        try:
            return cls(
                batch_id=fields[b"batch"].decode(),
                header=Header.decode(fields[b"header"]),
                attempt=int(fields[b"attempt"]),
                recorded_at_ms=known_moment(int(fields[b"recorded_at"])),
                result=fields.get(b"result"),
                failure=Failure.decode(fields[b"failure"]) if b"failure" in fields else None,
            )
        except (KeyError, ValueError) as error:
            public = "an entry on the results stream is malformed"
            raise DecodeError(f"{public}: {error!r}", public) from None
