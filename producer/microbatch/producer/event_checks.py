"""What is checked of an event before anything is sent: its size and its id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from microbatch.broker.app.config import Config
from microbatch.broker.errors import ConfigError, EncodeError, Stopped

_MAX_ID_LENGTH = 200
_ONE_EVENT = (str, bytes, bytearray, memoryview, Mapping, BaseModel)


class EventChecks:
    """Checks events as a batcher's settings say."""

    def __init__(self, config: Config) -> None:
        self._max_event_bytes = config.max_event_bytes
        self._keeps_ids = config.dedupe_window > 0

    def check_sizes(self, bodies: Sequence[bytes]) -> None:
        """Raises EncodeError if one of these JSON texts is too large. There must be at least one."""
        if (largest := max(map(len, bodies))) > self._max_event_bytes:
            raise EncodeError(
                f"an event has {largest:,} bytes; max_event_bytes allows {self._max_event_bytes:,}"
            )

    def check_id(self, event_id: str) -> None:
        """Raises EncodeError if an event's id is not valid, and ConfigError if ids are not remembered."""
        if not self._keeps_ids:
            raise ConfigError("an event's id is of use only with a dedupe_window: set it, in seconds")
        try:
            event_id.encode()
        except (AttributeError, UnicodeEncodeError):
            public = "an event's id is text that has UTF-8"
            raise EncodeError(f"{public}, not {event_id!r}", public) from None
        if not 0 < len(event_id) <= _MAX_ID_LENGTH:
            raise EncodeError(f"an event's id has 1 to {_MAX_ID_LENGTH} characters, not {len(event_id)}")


def stopped(name: str, events: int = 1, how: str = "stopped") -> Stopped:
    """The error of a call that would record so many events after the batcher was stopped or closed."""
    what = "the event was" if events == 1 else f"{events} events were"
    return Stopped(f"batcher {name!r} was {how}; {what} not recorded")


def refuse_one_event(events: object) -> None:
    """Raises EncodeError for a single event that is iterable, such as a text or a mapping."""
    if isinstance(events, _ONE_EVENT):
        raise EncodeError(
            f"record_events takes many events, and was given one {type(events).__name__}: "
            "put it in a list, or call record_event"
        )
