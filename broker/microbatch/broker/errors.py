"""Every error that Microbatch raises on purpose.

MicrobatchError
├── ConfigError           a setting is wrong or missing
├── AppError              an app could not be loaded, or names no Config
├── EventError            an event or a result does not fit
│   ├── EncodeError       it cannot be turned into JSON
│   └── DecodeError       what was read is not what was expected
├── Stopped               an event was recorded after stop()
├── BatcherFull           as many events wait as may
├── LeaseLost             this scheduler is no longer the active one
│   └── LeaseChanged      the lease is not as it was seen
└── ServerError           the server did not do what it was asked
    ├── Unavailable       it could not be reached: nothing was sent
    ├── InDoubt           the connection broke after sending: it may or may not have been done
    ├── Refused           it answered no: nothing was done
    │   └── RefusedForNow it answered no for a state that passes
    └── Unsupported       it is not a server that Microbatch can use
"""

from __future__ import annotations


class MicrobatchError(Exception):
    """The root of all errors that Microbatch raises."""

    @property
    def public(self) -> str:
        """The message as it may be logged."""
        return str(self)


class ConfigError(MicrobatchError, ValueError):
    """A setting is wrong or missing. The message names the setting and what to do."""


class AppError(MicrobatchError):
    """An app (``module:attribute`` or ``file.py[:attribute]``) could not be loaded."""


class EventError(MicrobatchError):
    """An event or a result does not fit. The message may quote it; then ``public`` says the rest."""

    def __init__(self, message: str = "", public: str | None = None) -> None:
        super().__init__(message)
        self._public = message if public is None else public

    @property
    def public(self) -> str:
        """The message as it may be logged."""
        return self._public


class EncodeError(EventError, TypeError):
    """A value cannot be turned into JSON. Nothing was sent."""


class DecodeError(EventError, ValueError):
    """A value read from the server is not what its reader expects."""


class Stopped(MicrobatchError):
    """An event was recorded after ``stop()``. It was not sent."""


class BatcherFull(MicrobatchError):
    """As many events wait as may (``max_waiting``). Nothing was recorded."""


class LeaseLost(MicrobatchError):
    """Another scheduler has become the active one. Nothing was cut."""


class LeaseChanged(LeaseLost):
    """The lease was renewed, taken by another, or ran out since it was seen. Nothing was done."""


class ServerError(MicrobatchError):
    """The server did not do what it was asked."""


class Unavailable(ServerError):
    """The server could not be reached. Nothing was sent, so nothing was done."""


class InDoubt(ServerError):
    """The connection broke after the command was sent: it may or may not have been done."""


class Refused(ServerError):
    """The server answered with an error. Nothing was done."""


class RefusedForNow(Refused):
    """The server is in a state that passes, and does nothing meanwhile: busy with a script, out of memory,
    read-only, loading, without its master. Nothing was done."""


class Unsupported(ServerError):
    """The server is too old, or is not one that Microbatch can use."""
