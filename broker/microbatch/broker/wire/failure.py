"""The failure of a dead batch. It replaces the run record in the batch's list."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.text import shortened
from microbatch.broker.wire.versioned import VERSION, versioned


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a batch is dead: the last attempt's error."""

    error: str
    traceback: str
    attempts: int

    def encode(self) -> str:
        """The failure as it is stored. A very long text loses its middle: servers limit the length."""
        texts = {"error": shortened(self.error), "traceback": shortened(self.traceback)}
        return json.dumps({"v": VERSION, **asdict(self), **texts}, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: bytes) -> Failure:
        """Raises DecodeError when ``raw`` is not a failure of this version."""
        fields = versioned(raw, "failure")
        try:
            return cls(str(fields["error"]), str(fields["traceback"]), int(fields["attempts"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            public = "a failure is malformed"
            raise DecodeError(f"{public}: {error}", public) from None
