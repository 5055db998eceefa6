"""Every error that Microbatch raises on purpose.

MicrobatchError
├── ConfigError           a setting is wrong or missing
├── AppError              an app could not be loaded, or has no Config
├── EventError            an event or a result is not valid
│   ├── EncodeError       it cannot be encoded as JSON
│   └── DecodeError       a value that was read is not what its reader expects
├── Stopped               an event was recorded after stop()
├── WrongLoop             an asyncio client was used outside its event loop or process
├── BatcherFull           more than max_waiting events would wait
├── NoReply               a submitted event has no result, or none that its caller gets
│   ├── EventFailed       it is dead: its processor failed
│   ├── EventExpired      it expired before it was processed
│   ├── AlreadyRecorded   an event with its id was recorded before; it was not recorded
│   ├── ReplyLost         its reply can't come any more; whether it is processed is unknown
│   └── Closed            its batcher was closed; if it was recorded, it is processed all the same
├── TooManyPending        more than max_pending replies would be waited for
├── LeaseLost             this scheduler is no longer the active one
│   └── LeaseChanged      the lease has changed since it was read
└── ServerError           the server did not do what it was asked
    ├── Unavailable       it could not be reached: nothing was sent
    ├── InDoubt           the connection broke after sending: the command may or may not have been done
    ├── Refused           it answered with an error: nothing was done
    │   └── RefusedForNow it refused because of a temporary state
    └── Unsupported       Microbatch can't use this server
"""

from __future__ import annotations


class MicrobatchError(Exception):
    """The base class of all errors that Microbatch raises."""

    @property
    def public(self) -> str:
        """The message in a form that may be logged."""
        return str(self)


class ConfigError(MicrobatchError, ValueError):
    """A setting is wrong or missing. The message names the setting and what to do."""


class AppError(MicrobatchError):
    """An app (``module:attribute`` or ``file.py[:attribute]``) could not be loaded."""


class EventError(MicrobatchError):
    """An event or a result is not valid. The message may quote it; ``public`` does not."""

    def __init__(self, message: str = "", public: str | None = None) -> None:
        super().__init__(message)
        self._public = message if public is None else public

    @property
    def public(self) -> str:
        """The message in a form that may be logged."""
        return self._public


class EncodeError(EventError, TypeError):
    """A value cannot be encoded as JSON. Nothing was sent."""


class DecodeError(EventError, ValueError):
    """A value read from the server is not what its reader expects."""


class Stopped(MicrobatchError):
    """An event was recorded after ``stop()``. It was not sent."""


class WrongLoop(MicrobatchError, RuntimeError):
    """An asyncio client was used outside the event loop or the process that it was opened in.

    Nothing was sent."""


class BatcherFull(MicrobatchError):
    """More than ``max_waiting`` events would wait. Nothing was recorded."""


class NoReply(MicrobatchError):
    """A submitted event has no result, or none that its caller gets."""


class EventFailed(NoReply):
    """A submitted event is dead, because its processor failed for the last time."""

    def __init__(self, error: str, traceback: str = "", attempts: int = 1) -> None:
        super().__init__(error)
        self.error = error
        """The last attempt's error, on one line."""
        self.traceback = traceback
        """The last attempt's traceback; empty if there is none."""
        self.attempts = attempts

    @property
    def public(self) -> str:
        """The message in a form that may be logged: the processor's error may quote the event."""
        return f"the event is dead after {self.attempts} attempts"


class EventExpired(NoReply):
    """A submitted event expired before it was processed."""


class AlreadyRecorded(NoReply):
    """An event with this id was recorded before, within ``dedupe_window``. This one was not recorded."""


class ReplyLost(NoReply):
    """The reply to a submitted event can't come any more. Whether the event is processed is unknown."""


class Closed(NoReply):
    """The batcher was closed before the reply came. An event that was recorded is processed all the same."""


class TooManyPending(MicrobatchError):
    """More than ``max_pending`` replies would be waited for. Nothing was recorded."""


class LeaseLost(MicrobatchError):
    """Another scheduler has become the active one. Nothing was cut."""


class LeaseChanged(LeaseLost):
    """The lease was renewed, changed hands, or expired after it was read. Nothing was done."""


class ServerError(MicrobatchError):
    """The server did not do what it was asked."""


class Unavailable(ServerError):
    """The server could not be reached. Nothing was sent, so nothing was done."""


class InDoubt(ServerError):
    """The command may or may not have been done.

    The connection broke after the command was sent, or no replica confirmed an event.
    """


class Refused(ServerError):
    """The server answered with an error. Nothing was done."""


class RefusedForNow(Refused):
    """The server refused because of a temporary state, such as busy with a script, out of memory, read-only,
    or without its master. Nothing was done."""


class Unsupported(ServerError):
    """Microbatch can't use this server: it is too old, or in cluster mode."""
