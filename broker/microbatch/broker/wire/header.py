"""The header of a batch, the first value of its list: written at the cut, and never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.versioned import VERSION, known_moment, versioned


class Trigger(StrEnum):
    """Why a batch was cut."""

    SIZE = "size"
    TICK = "tick"
    FLUSH = "flush"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a batch that are known at its cut."""

    trigger: Trigger
    size: int
    cut_at_ms: int
    parent: str = ""
    """The id of the batch that this one is a part of; empty if it is not a part."""

    def encode(self) -> str:
        fields = {"v": VERSION, "trigger": self.trigger, "size": self.size, "cut_at_ms": self.cut_at_ms}
        if self.parent:
            fields["parent"] = self.parent
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Raises DecodeError when ``raw`` is not a header of this version."""
        fields = versioned(raw, "batch header")
        try:
            return cls(
                Trigger(fields["trigger"]),
                int(fields["size"]),
                known_moment(int(fields["cut_at_ms"])),
                str(fields.get("parent", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            public = "a batch header is malformed"
            raise DecodeError(f"{public}: {error}", public) from None
